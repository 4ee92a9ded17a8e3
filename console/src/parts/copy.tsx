import { useEffect, useRef, useState } from 'react'
import { Icon } from './icon.tsx'

export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [isCopied, setIsCopied] = useState(false)
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  useEffect(() => () => clearTimeout(timer.current), [])

  async function copy(): Promise<void> {
    await writeText(text)
    setIsCopied(true)
    clearTimeout(timer.current)
    timer.current = setTimeout(() => setIsCopied(false), 1600)
  }

  return (
    <button
      type="button"
      className="copy"
      data-copied={isCopied || undefined}
      onClick={copy}
      aria-label={label}
      title={label}
    >
      <Icon name={isCopied ? 'check' : 'copy'} size={14} />
      <span role="status" className="visually-hidden">
        {isCopied ? 'Copied' : ''}
      </span>
    </button>
  )
}

/** A command to run in a terminal, with one click to take it there. */
export function Command({ text, label }: { text: string; label?: string }) {
  return (
    <div className="command">
      <pre>
        <code>{text}</code>
      </pre>
      <CopyButton text={text} label={label ?? 'Copy the command'} />
    </div>
  )
}

/** The clipboard API exists only on https and localhost; a console on a LAN address falls back to a selection. */
async function writeText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    const area = document.createElement('textarea')
    area.value = text
    area.className = 'visually-hidden'
    document.body.append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
}

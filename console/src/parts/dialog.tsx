import { type FormEvent, type ReactNode, useEffect, useRef, useState } from 'react'
import { asApiError } from '../live/use-resource.ts'
import { Icon } from './icon.tsx'

interface DialogProps {
  title: string
  onClose: () => void
  children: ReactNode
}

/** The browser's own modal dialog: focus is kept inside, Escape closes, focus goes back to where it was. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const dialog = ref.current
    if (!dialog || dialog.open) return
    dialog.showModal()
    // The browser would choose the button that closes it.
    dialog.querySelector<HTMLElement>('input, select, .button.primary')?.focus()
  }, [])
  return (
    <dialog ref={ref} className="dialog" aria-label={title} onClose={onClose} data-testid="dialog">
      <header>
        <h2>{title}</h2>
        <button type="button" className="icon-button" aria-label="Close" onClick={() => ref.current?.close()}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  )
}

interface FormProps {
  submit: string
  /** Why the button cannot be pressed yet; empty when it can. */
  blocked?: string
  onSubmit: () => Promise<void>
  children: ReactNode
}

/** A form that shows the service's own sentence when it refuses, and cannot be sent twice. */
export function ActionForm({ submit, blocked = '', onSubmit, children }: FormProps) {
  const [problem, setProblem] = useState('')
  const [isSending, setIsSending] = useState(false)

  async function send(event: FormEvent): Promise<void> {
    event.preventDefault()
    if (isSending || blocked) return
    setIsSending(true)
    setProblem('')
    try {
      await onSubmit()
    } catch (cause) {
      setProblem(asApiError(cause).message)
    } finally {
      setIsSending(false)
    }
  }

  return (
    <form className="form" onSubmit={send}>
      {children}
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <button
        type="submit"
        className="button primary"
        disabled={isSending || blocked !== ''}
        title={blocked || undefined}
      >
        {isSending ? 'One moment…' : submit}
      </button>
      {blocked && <p className="quiet">{blocked}</p>}
    </form>
  )
}

interface FieldProps {
  label: string
  hint?: ReactNode
  children: ReactNode
}

export function Field({ label, hint, children }: FieldProps) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is the child
    <label className="field">
      <span className="field-label">{label}</span>
      {children}
      {hint && <span className="field-hint">{hint}</span>}
    </label>
  )
}

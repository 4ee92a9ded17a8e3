import { type FormEvent, useEffect, useRef, useState } from 'react'
import { Icon } from '../../parts/icon.tsx'

export function QueryBar({ query, onSubmit }: { query: string; onSubmit: (query: string) => void }) {
  const [text, setText] = useState(query)
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => setText(query), [query])
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLElement && event.target.matches('input, textarea, select')
      if (event.key !== '/' || isTyping || event.metaKey || event.ctrlKey) return
      event.preventDefault()
      input.current?.focus()
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])

  const submit = (event: FormEvent) => {
    event.preventDefault()
    onSubmit(text.trim())
  }
  return (
    <search>
      <form className="query-bar" onSubmit={submit}>
        <Icon name="search" />
        <input
          ref={input}
          type="text"
          value={text}
          onChange={event => setText(event.target.value)}
          placeholder='level>=warn service:shop "card declined"'
          aria-label="Search logs"
          spellCheck={false}
          autoCapitalize="off"
          autoComplete="off"
          data-testid="log-query"
        />
        {text && (
          <button
            type="button"
            className="icon-button"
            aria-label="Clear the search"
            onClick={() => {
              setText('')
              onSubmit('')
              input.current?.focus()
            }}
          >
            <Icon name="close" size={14} />
          </button>
        )}
        <span className="kbd" aria-hidden="true">
          /
        </span>
        <button type="submit" className="button">
          Search
        </button>
      </form>
    </search>
  )
}

import { type FormEvent, type KeyboardEvent as ReactKeyboardEvent, useEffect, useId, useRef, useState } from 'react'
import { listFields, listFieldValues } from '../../api/logs.ts'
import { useResource } from '../../live/use-resource.ts'
import { complete, type Wanted, wantedAt } from '../../logs/completion.ts'
import { Icon } from '../../parts/icon.tsx'
import { formatCountShort } from '../../units/counts.ts'

export function QueryBar({ query, onSubmit }: { query: string; onSubmit: (query: string) => void }) {
  const [text, setText] = useState(query)
  const [wanted, setWanted] = useState<Wanted | null>(null)
  const [chosen, setChosen] = useState(-1)
  const input = useRef<HTMLInputElement>(null)
  const listId = useId()
  const choices = useChoices(wanted)
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

  const look = () => {
    const at = input.current
    setWanted(at && at.selectionStart === at.selectionEnd ? wantedAt(at.value, at.selectionStart ?? 0) : null)
    setChosen(-1)
  }
  const take = (choice: string) => {
    if (!wanted) return
    const next = complete(text, wanted, choice)
    setText(next.query)
    // The caret can only be set once React has written the text.
    requestAnimationFrame(() => {
      input.current?.focus()
      input.current?.setSelectionRange(next.caret, next.caret)
      look()
    })
  }
  const submit = (event: FormEvent) => {
    event.preventDefault()
    setWanted(null)
    onSubmit(text.trim())
  }
  const onKeyDown = (event: ReactKeyboardEvent) => {
    if (choices.length === 0) return
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step !== undefined) setChosen((chosen + step + choices.length + 1) % (choices.length + 1))
    else if (event.key === 'Escape') setWanted(null)
    else if ((event.key === 'Enter' || event.key === 'Tab') && choices[chosen]) take(choices[chosen].value)
    else return
    event.preventDefault()
  }

  return (
    <search>
      <form className="query-bar" onSubmit={submit}>
        <Icon name="search" />
        <input
          ref={input}
          type="text"
          value={text}
          onChange={event => {
            setText(event.target.value)
            look()
          }}
          onKeyDown={onKeyDown}
          onBlur={() => setWanted(null)}
          placeholder='level>=warn service:shop "card declined"'
          aria-label="Search logs"
          role="combobox"
          aria-expanded={choices.length > 0}
          aria-controls={listId}
          aria-activedescendant={chosen >= 0 ? `${listId}-${chosen}` : undefined}
          aria-autocomplete="list"
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
        {choices.length > 0 && (
          <div className="completions" role="listbox" id={listId} data-testid="completions">
            {choices.map(({ value, count }, i) => (
              <div
                key={value}
                id={`${listId}-${i}`}
                role="option"
                tabIndex={-1}
                aria-selected={i === chosen}
                // Before the input loses the focus, and the list with it.
                onPointerDown={event => {
                  event.preventDefault()
                  take(value)
                }}
              >
                <code>{value}</code>
                <span className="quiet">{count}</span>
              </div>
            ))}
          </div>
        )}
      </form>
    </search>
  )
}

interface Choice {
  value: string
  /** How often, in few characters; empty for fields every entry has. */
  count: string
}

const choicesMax = 8
const hourMs = 3_600_000
/** Fields that are no metadata: always there. */
const ownFields = ['service', 'level', 'timestamp', 'id']
const levelNames = ['debug', 'info', 'warn', 'error', 'fatal']

/** From the last hour, by the hour's tenth, so that typing does not ask anew with every key. */
function useChoices(wanted: Wanted | null): readonly Choice[] {
  const tenth = Math.floor(Date.now() / (hourMs / 10)) * (hourMs / 10)
  const span = { from: new Date(tenth - hourMs).toISOString(), to: new Date(tenth + hourMs / 10).toISOString() }
  const fields = useResource(wanted ? `log fields ${tenth}` : null, signal => listFields(span, signal))
  const name = wanted?.kind === 'value' && wanted.name !== 'level' ? wanted.name : null
  const prefix = wanted?.prefix ?? ''
  const values = useResource(name === null ? null : `log values ${tenth} ${name} ${prefix}`, signal =>
    listFieldValues(name ?? '', { ...span, prefix, limit: choicesMax }, signal),
  )
  if (!wanted) return []
  const starts = (text: string) => text.toLowerCase().startsWith(prefix.toLowerCase()) && text !== prefix
  if (wanted.kind === 'field') {
    const known = (fields.data?.fields ?? [])
      .filter(field => !ownFields.includes(field.name))
      .map(field => ({ value: field.name, count: formatCountShort(Number(field.count)) }))
    return [...ownFields.map(value => ({ value, count: '' })), ...known]
      .filter(({ value }) => starts(value))
      .slice(0, choicesMax)
  }
  if (wanted.name === 'level') return levelNames.filter(starts).map(value => ({ value, count: '' }))
  return (values.data?.values ?? [])
    .filter(({ value }) => value !== prefix)
    .map(({ value, count }) => ({ value, count: formatCountShort(Number(count)) }))
}

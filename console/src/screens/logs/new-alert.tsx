import { useState } from 'react'
import { type AlertInput, type AlertPreview, createAlert, previewAlert } from '../../api/log-rules.ts'
import { asApiError } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { formatMoment } from '../../units/time.ts'
import { conditionText } from './alerts-tab.tsx'

const kinds = [
  { value: 'count', label: 'How many' },
  { value: 'absence', label: 'None at all' },
  { value: 'rate', label: 'A change' },
] as const
type Kind = (typeof kinds)[number]['value']
const windows = ['1m', '5m', '15m', '1h', '6h', '24h']
const operators = ['>', '>=', '<', '<='] as const
type Operator = (typeof operators)[number]

export function NewAlert({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [name, setName] = useState('')
  const [q, setQ] = useState('level>=error')
  const [kind, setKind] = useState<Kind>('count')
  const [op, setOp] = useState<Operator>('>')
  const [threshold, setThreshold] = useState('10')
  const [window, setWindow] = useState('5m')
  const [url, setUrl] = useState('')
  const [preview, setPreview] = useState<AlertPreview | string | null>(null)
  const definition: Omit<AlertInput, 'name'> = {
    q,
    kind,
    window,
    ...(kind === 'absence' ? {} : { op, threshold: Number(threshold) }),
    ...(url.trim() === '' ? {} : { webhook: { url: url.trim(), format: 'purser' as const } }),
  }
  const isNumber = kind === 'absence' || /^-?\d{1,12}$/.test(threshold)
  const blocked = name.trim() === '' ? 'An alert needs a name' : isNumber ? '' : 'The threshold is a whole number'

  const look = () => {
    setPreview('Counting seven days…')
    previewAlert(definition, undefined)
      .then(setPreview)
      .catch(error => setPreview(asApiError(error).message))
  }
  return (
    <Dialog title="New alert" onClose={onClose}>
      <ActionForm
        submit="Create alert"
        blocked={blocked}
        onSubmit={async () => {
          await createAlert({ name: name.trim(), ...definition })
          onCreated()
          onClose()
        }}
      >
        <Field label="Name">
          <input
            value={name}
            onChange={event => setName(event.target.value)}
            placeholder="Checkout errors"
            data-testid="alert-name"
          />
        </Field>
        <Field label="Entries that match">
          <input
            className="code"
            value={q}
            spellCheck={false}
            onChange={event => setQ(event.target.value)}
            data-testid="alert-query"
          />
        </Field>
        <div className="form-row">
          <Field label="Watch for">
            <select value={kind} onChange={event => setKind(kinds[event.target.selectedIndex]?.value ?? 'count')}>
              {kinds.map(({ value, label }) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          </Field>
          {kind !== 'absence' && (
            <Field label={kind === 'rate' ? 'Change in percent' : 'Entries'}>
              <span className="form-pair">
                <select
                  aria-label="Compared how"
                  value={op}
                  onChange={event => setOp(operators[event.target.selectedIndex] ?? '>')}
                >
                  {operators.map(one => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
                <input
                  inputMode="numeric"
                  aria-label="Threshold"
                  value={threshold}
                  onChange={event => setThreshold(event.target.value.trim())}
                  data-testid="alert-threshold"
                />
              </span>
            </Field>
          )}
          <Field label="Within">
            <select value={window} onChange={event => setWindow(event.target.value)}>
              {windows.map(one => (
                <option key={one}>{one}</option>
              ))}
            </select>
          </Field>
        </div>
        <Field label="Tell this webhook" hint="Empty: the state is shown here and nobody is told.">
          <input
            value={url}
            type="url"
            placeholder="https://hooks.example.com/purser"
            onChange={event => setUrl(event.target.value)}
          />
        </Field>
        <div className="alert-preview">
          <button
            type="button"
            className="button small"
            onClick={look}
            disabled={!isNumber}
            data-testid="alert-preview"
          >
            What would it have done in the last seven days?
          </button>
          {typeof preview === 'string' && <p className="quiet">{preview}</p>}
          {preview !== null && typeof preview === 'object' && (
            <BackTest
              preview={preview}
              condition={conditionText({ ...definition, for: '0s' })}
              threshold={definition.threshold}
            />
          )}
        </div>
      </ActionForm>
    </Dialog>
  )
}

const barsMax = 120

function BackTest({
  preview,
  condition,
  threshold,
}: {
  preview: AlertPreview
  condition: string
  threshold: number | undefined
}) {
  const step = Math.max(1, Math.ceil(preview.series.length / barsMax))
  // Of the points that share a bar the highest is what would have fired.
  const bars = Array.from({ length: Math.ceil(preview.series.length / step) }, (_, i) =>
    Math.max(0, ...preview.series.slice(i * step, (i + 1) * step).map(({ value }) => Number(value ?? 0))),
  )
  const top = Math.max(1, threshold ?? 0, ...bars)
  return (
    <div data-testid="alert-back-test">
      <svg viewBox={`0 0 ${barsMax} 40`} preserveAspectRatio="none" role="img" aria-label="Values over seven days">
        {bars.map((value, i) => (
          <rect
            // biome-ignore lint/suspicious/noArrayIndexKey: a bar is its place
            key={i}
            x={(i * barsMax) / bars.length}
            width={(barsMax / bars.length) * 0.8}
            y={40 - (value / top) * 38}
            height={(value / top) * 38}
          />
        ))}
        {threshold !== undefined && threshold > 0 && (
          <line x1="0" x2={barsMax} y1={40 - (threshold / top) * 38} y2={40 - (threshold / top) * 38} />
        )}
      </svg>
      <p>
        {preview.firing === 0 ? (
          <>It would not have fired: never {condition}.</>
        ) : (
          <>
            It would have fired <b>{preview.firing === 1 ? 'once' : `${preview.firing} times`}</b>, last on{' '}
            {formatMoment(Date.parse(preview.fired.at(-1)?.from ?? preview.to))}.
          </>
        )}
        {!preview.complete && ' Not all seven days could be counted in time.'}
      </p>
    </div>
  )
}

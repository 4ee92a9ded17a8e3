import { type FormEvent, type ReactNode, useEffect, useRef, useState } from 'react'
import type { Meter } from '../../api/billing-meters.ts'
import { createVersion, type Plan, type PlanVersion } from '../../api/billing-plans.ts'
import { meterLabel, unitOfMeter, unitsOf } from '../../billing/meters.ts'
import {
  draftFrom,
  drawablePrice,
  type FieldProblems,
  type Model,
  models,
  modelWords,
  newPrice,
  newTier,
  type PriceDraft,
  problemOf,
  type TierDraft,
  type VersionDraft,
  versionFrom,
} from '../../billing/plan-form.ts'
import { asApiError } from '../../live/use-resource.ts'
import { Icon } from '../../parts/icon.tsx'
import { Panel } from '../../parts/panel.tsx'
import { TierGraph } from './tier-graph.tsx'
import { WhatIf } from './what-if.tsx'

interface EditorProps {
  plan: Plan
  last: PlanVersion | undefined
  meters: readonly Meter[]
  onClose: () => void
  onCreated: (version: number) => void
}

const policies = [
  { value: 'zero', label: 'Not billed' },
  { value: 'floor', label: 'What the counters prove' },
  { value: 'interpolate', label: 'Short ones as if measured' },
] as const

/** The next version of a plan, with what it would have done beside it while it is typed. */
export function PlanEditor({ plan, last, meters, onClose, onCreated }: EditorProps) {
  const [draft, setDraft] = useState<VersionDraft>(() => draftFrom(last, Date.now()))
  const [refused, setRefused] = useState<{ field: string; message: string } | null>(null)
  const [isShown, setIsShown] = useState(false)
  const [isSending, setIsSending] = useState(false)
  const [refusals, setRefusals] = useState(0)
  const form = useRef<HTMLFormElement>(null)
  // After each refusal, and only then: the first wrong field, wherever in the long form it is.
  useEffect(() => {
    if (refusals > 0) form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus()
  }, [refusals])
  const { version, problems } = versionFrom(draft)
  const shown: FieldProblems = {
    ...(isShown ? problems : {}),
    ...(refused === null ? {} : { [refused.field]: refused.message }),
  }
  const unitOf = (meter: string) => meters.find(({ slug }) => slug === meter)?.unit ?? unitOfMeter(meter)
  const change = (patch: Partial<VersionDraft>) => {
    setDraft({ ...draft, ...patch })
    setRefused(null)
  }
  const changePrice = (key: string, patch: Partial<PriceDraft>) =>
    change({ prices: draft.prices.map(price => (price.key === key ? { ...price, ...patch } : price)) })

  async function send(event: FormEvent): Promise<void> {
    event.preventDefault()
    setIsShown(true)
    if (version === null) setRefusals(n => n + 1)
    if (version === null || isSending) return
    setIsSending(true)
    try {
      const made = await createVersion(plan.id, version)
      onCreated(made.version)
    } catch (cause) {
      const { message } = asApiError(cause)
      setRefused(problemOf(message) ?? { field: '', message })
      setRefusals(n => n + 1)
    } finally {
      setIsSending(false)
    }
  }

  const wrong = Object.keys(shown)
  return (
    <div className="plan-grid">
      <Panel title={last === undefined ? 'First version' : `Version ${last.version + 1}`} testId="plan-editor">
        <form ref={form} className="plan-form" onSubmit={send} noValidate>
          <div className="plan-row">
            <Line
              label="From"
              path="effectiveFrom"
              problems={shown}
              hint="A whole hour in UTC, after the last version."
            >
              {field => (
                <input
                  {...field}
                  value={draft.effectiveFrom}
                  onChange={event => change({ effectiveFrom: event.target.value })}
                  data-testid="effective-from"
                />
              )}
            </Line>
            <Line label="Gaps" path="gapPolicy" problems={shown}>
              {field => (
                <select
                  {...field}
                  value={draft.gapPolicy}
                  onChange={event => change({ gapPolicy: policies[event.target.selectedIndex]?.value ?? 'zero' })}
                >
                  {policies.map(({ value, label }) => (
                    <option key={value} value={value}>
                      {label}
                    </option>
                  ))}
                </select>
              )}
            </Line>
            <Line label={`Minimum per period, ${plan.currency}`} path="minimumNano" problems={shown}>
              {field => (
                <input
                  {...field}
                  inputMode="decimal"
                  placeholder="none"
                  value={draft.minimum}
                  onChange={event => change({ minimum: event.target.value })}
                />
              )}
            </Line>
          </div>
          <Line label="Measured and not billed" path="unbilled" problems={shown} hint="Meters, separated by commas.">
            {field => (
              <input
                {...field}
                value={draft.unbilled}
                placeholder="vm_disk_read, vm_net_rx"
                onChange={event => change({ unbilled: event.target.value })}
              />
            )}
          </Line>
          {draft.prices.map((price, i) => (
            <PriceFields
              key={price.key}
              price={price}
              path={`prices.${i}`}
              problems={shown}
              plan={plan}
              meters={meters}
              unitOf={unitOf}
              onChange={patch => changePrice(price.key, patch)}
              onRemove={() => change({ prices: draft.prices.filter(({ key }) => key !== price.key) })}
            />
          ))}
          <div className="plan-actions">
            <button
              type="button"
              className="button small"
              onClick={() => change({ prices: [...draft.prices, newPrice('vm_cpu', 'ns')] })}
              data-testid="add-price"
            >
              <Icon name="plus" size={14} />
              Price
            </button>
            <button
              type="button"
              className="button small"
              onClick={() => change({ prices: [...draft.prices, { ...newPrice('', ''), id: 'base' }] })}
            >
              <Icon name="plus" size={14} />
              Flat fee
            </button>
          </div>
          {wrong.length > 0 && (
            <ul className="problem" role="alert" data-testid="plan-problems">
              {wrong.map(path => (
                <li key={path}>
                  {path !== '' && <code>{path}</code>} {shown[path]}
                </li>
              ))}
            </ul>
          )}
          <div className="plan-actions">
            <button type="submit" className="button primary" disabled={isSending} data-testid="save-version">
              {isSending ? 'One moment…' : 'Create version'}
            </button>
            {last !== undefined && (
              <button type="button" className="button" onClick={onClose}>
                Cancel
              </button>
            )}
            <span className="quiet">Once a period used it, a version is for ever.</span>
          </div>
        </form>
      </Panel>
      <WhatIf
        title="What if it had been in force"
        plan={version === null ? null : { version }}
        currency={plan.currency}
      />
    </div>
  )
}

interface FieldAttributes {
  'aria-invalid': boolean
  name: string
}

/** A control with its label, and under it what is wrong with it. */
function Line({
  label,
  path,
  problems,
  hint,
  children,
}: {
  label: string
  path: string
  problems: FieldProblems
  hint?: string
  children: (field: FieldAttributes) => ReactNode
}) {
  const problem = problems[path]
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is the child
    <label className="field">
      <span className="field-label">{label}</span>
      {children({ 'aria-invalid': problem !== undefined, name: path })}
      {problem === undefined ? (
        hint && <span className="field-hint">{hint}</span>
      ) : (
        <span className="field-problem">{problem}</span>
      )}
    </label>
  )
}

interface PriceProps {
  price: PriceDraft
  path: string
  problems: FieldProblems
  plan: Plan
  meters: readonly Meter[]
  unitOf: (meter: string) => string
  onChange: (patch: Partial<PriceDraft>) => void
  onRemove: () => void
}

function PriceFields({ price, path, problems, plan, meters, unitOf, onChange, onRemove }: PriceProps) {
  const { model, meter } = price
  const unit = unitOf(meter)
  const units = unitsOf(unit, meter)
  const isTiered = model === 'graduated' || model === 'volume'
  const drawn = drawablePrice(price)
  const slugs = meters.map(({ slug }) => slug)
  const chooseMeter = (next: string) => onChange({ meter: next, per: `${unitsOf(unitOf(next), next)[0].per}` })
  const unitName = units.find(({ per }) => `${per}` === price.per)?.name ?? `${price.per} ${unit}`
  return (
    <fieldset className="price-fields" data-testid="price-fields">
      <legend className="visually-hidden">Price {price.id}</legend>
      <div className="plan-row">
        <Line label="Id" path={`${path}.id`} problems={problems}>
          {field => (
            <input {...field} value={price.id} onChange={event => onChange({ id: event.target.value.trim() })} />
          )}
        </Line>
        <Line label="Model" path={`${path}.model`} problems={problems}>
          {field => (
            <select
              {...field}
              value={model}
              onChange={event => {
                const next: Model = models[event.target.selectedIndex] ?? 'per_unit'
                onChange({ model: next })
                if (next !== 'flat' && meter === '') chooseMeter(slugs[0] ?? 'vm_cpu')
              }}
            >
              {models.map(one => (
                <option key={one} value={one}>
                  {modelWords[one].label}
                </option>
              ))}
            </select>
          )}
        </Line>
        {model !== 'flat' && (
          <Line label="Meter" path={`${path}.meter`} problems={problems}>
            {field => (
              <select {...field} value={meter} onChange={event => chooseMeter(event.target.value)}>
                {(slugs.includes(meter) ? slugs : [meter, ...slugs]).map(slug => (
                  <option key={slug} value={slug}>
                    {meterLabel(slug)}
                  </option>
                ))}
              </select>
            )}
          </Line>
        )}
        {model !== 'flat' && model !== 'cost_plus' && (
          <Line
            label={model === 'package' ? 'Package of' : 'Per'}
            path={model === 'package' ? `${path}.packageSize` : `${path}.per`}
            problems={problems}
          >
            {field => (
              <select {...field} value={price.per} onChange={event => onChange({ per: event.target.value })}>
                {units.map(({ name, per }) => (
                  <option key={name} value={`${per}`}>
                    {name}
                  </option>
                ))}
                {!units.some(({ per }) => `${per}` === price.per) && <option value={price.per}>{unitName}</option>}
              </select>
            )}
          </Line>
        )}
        <button
          type="button"
          className="icon-button price-remove"
          aria-label={`Remove price ${price.id}`}
          title="Remove"
          onClick={onRemove}
        >
          <Icon name="trash" size={14} />
        </button>
      </div>
      <div className="plan-row">
        {!isTiered && model !== 'cost_plus' && (
          <Line label={`Amount, ${plan.currency}`} path={`${path}.amountNano`} problems={problems}>
            {field => (
              <input
                {...field}
                inputMode="decimal"
                placeholder="0.10"
                value={price.amount}
                onChange={event => onChange({ amount: event.target.value })}
                data-testid="price-amount"
              />
            )}
          </Line>
        )}
        {model === 'cost_plus' && (
          <Line label="Markup, %" path={`${path}.markupPpm`} problems={problems}>
            {field => (
              <input
                {...field}
                inputMode="decimal"
                value={price.markup}
                onChange={event => onChange({ markup: event.target.value })}
              />
            )}
          </Line>
        )}
        {model !== 'flat' && model !== 'cost_plus' && (
          <Line label={`Free, in ${unitName}s`} path={`${path}.freeQuantity`} problems={problems}>
            {field => (
              <input
                {...field}
                inputMode="decimal"
                placeholder="0"
                value={price.free}
                onChange={event => onChange({ free: event.target.value })}
              />
            )}
          </Line>
        )}
        {model !== 'flat' && (
          <Line label="Only where" path={`${path}.match`} problems={problems}>
            {field => (
              <input
                {...field}
                placeholder="provider=openai"
                value={price.match}
                onChange={event => onChange({ match: event.target.value })}
              />
            )}
          </Line>
        )}
      </div>
      {isTiered && (
        <Tiers
          tiers={price.tiers}
          path={path}
          problems={problems}
          unitName={unitName}
          currency={plan.currency}
          onChange={tiers => onChange({ tiers })}
        />
      )}
      {drawn !== null && model !== 'flat' && (
        <TierGraph price={drawn} unit={unit} meter={meter} currency={plan.currency} />
      )}
    </fieldset>
  )
}

function Tiers({
  tiers,
  path,
  problems,
  unitName,
  currency,
  onChange,
}: {
  tiers: readonly TierDraft[]
  path: string
  problems: FieldProblems
  unitName: string
  currency: string
  onChange: (tiers: TierDraft[]) => void
}) {
  const change = (key: string, patch: Partial<TierDraft>) =>
    onChange(tiers.map(tier => (tier.key === key ? { ...tier, ...patch } : tier)))
  return (
    <div className="tiers">
      {tiers.map((tier, i) => {
        const isLast = i === tiers.length - 1
        const at = `${path}.tiers.${i}`
        return (
          <div key={tier.key} className="plan-row tier-row">
            <Line label={isLast ? 'Above' : `Up to, in ${unitName}s`} path={`${at}.upTo`} problems={problems}>
              {field => (
                <input
                  {...field}
                  inputMode="decimal"
                  value={isLast ? '' : tier.upTo}
                  placeholder={isLast ? 'no bound' : '100'}
                  disabled={isLast}
                  title={isLast ? 'The last tier has no bound' : undefined}
                  onChange={event => change(tier.key, { upTo: event.target.value })}
                />
              )}
            </Line>
            <Line label={`Each, ${currency}`} path={`${at}.amountNano`} problems={problems}>
              {field => (
                <input
                  {...field}
                  inputMode="decimal"
                  placeholder="0.10"
                  value={tier.amount}
                  onChange={event => change(tier.key, { amount: event.target.value })}
                />
              )}
            </Line>
            <Line label={`Once, ${currency}`} path={`${at}.flatNano`} problems={problems}>
              {field => (
                <input
                  {...field}
                  inputMode="decimal"
                  placeholder="0"
                  value={tier.flat}
                  onChange={event => change(tier.key, { flat: event.target.value })}
                />
              )}
            </Line>
            <button
              type="button"
              className="icon-button price-remove"
              aria-label={`Remove tier ${i + 1}`}
              title={tiers.length === 1 ? 'A tiered price has at least one tier' : 'Remove'}
              disabled={tiers.length === 1}
              onClick={() => onChange(tiers.filter(({ key }) => key !== tier.key))}
            >
              <Icon name="trash" size={14} />
            </button>
          </div>
        )
      })}
      <button
        type="button"
        className="button small"
        onClick={() => onChange([...tiers.slice(0, -1), newTier(), ...tiers.slice(-1)])}
      >
        <Icon name="plus" size={14} />
        Tier
      </button>
    </div>
  )
}

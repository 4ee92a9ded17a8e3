import { formatUsd } from '#platform/money'
import type { PlanVersion, PriceInput, VersionInput } from '../api/billing-plans.ts'
import { nanoFromUsd } from '../units/money.ts'
import { unitsOf } from './meters.ts'

// A plan version as one types it, and as billaged takes it. People write money as decimals and quantities in units they
// count in; the wire has whole nano-units and base units. Both directions are exact: what cannot be written exactly in a
// unit is written in base units, `107374182400 base`.

export const models = ['per_unit', 'graduated', 'volume', 'package', 'cost_plus', 'flat'] as const
export type Model = (typeof models)[number]
export const modelWords: Record<Model, { label: string; meaning: string }> = {
  per_unit: { label: 'Per unit', meaning: 'Every unit costs the same.' },
  graduated: { label: 'Graduated', meaning: 'Each slice at its own tier.' },
  volume: { label: 'Volume', meaning: 'All units at the tier that the whole quantity reaches.' },
  package: { label: 'Package', meaning: 'Whole packages, the last one begun counts.' },
  cost_plus: { label: 'Cost plus', meaning: 'The quantity is money; a markup comes on top.' },
  flat: { label: 'Flat fee', meaning: 'Once per period, shared over its hours.' },
}

export interface TierDraft {
  key: string
  /** Empty in the last tier: no bound. */
  upTo: string
  amount: string
  flat: string
}

export interface PriceDraft {
  key: string
  id: string
  model: Model
  meter: string
  /** `provider=openai, model=gpt-4o` */
  match: string
  /** Base units in one priced unit, or in one package. */
  per: string
  amount: string
  free: string
  /** Percent. */
  markup: string
  tiers: TierDraft[]
}

export interface VersionDraft {
  effectiveFrom: string
  gapPolicy: NonNullable<VersionInput['gapPolicy']>
  minimum: string
  /** Meter slugs, separated by commas. */
  unbilled: string
  prices: PriceDraft[]
}

/** By the path that billaged uses in its own messages, `prices.2.tiers.0.upTo`. */
export type FieldProblems = Readonly<Record<string, string>>

let keys = 0
/** Rows of a form need an identity that does not move when one above them goes. */
const newKey = () => `row-${++keys}`

export function newTier(): TierDraft {
  return { key: newKey(), upTo: '', amount: '', flat: '' }
}

export function newPrice(meter: string, unit: string): PriceDraft {
  return {
    key: newKey(),
    id: meter.replaceAll('_', '-'),
    model: meter === '' ? 'flat' : 'per_unit',
    meter,
    match: '',
    per: `${unitsOf(unit, meter)[0].per}`,
    amount: '',
    free: '',
    markup: '20',
    tiers: [newTier()],
  }
}

/** What the next version starts from: the last one, from the beginning of the next month. */
export function draftFrom(last: PlanVersion | undefined, nowMs: number): VersionDraft {
  const now = new Date(nowMs)
  const first = last === undefined
  const month = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + (first ? 0 : 1), 1)
  return {
    effectiveFrom: `${new Date(month).toISOString().slice(0, 13)}:00:00Z`,
    gapPolicy: last?.gapPolicy ?? 'zero',
    minimum: last === undefined || last.minimumNano === '0' ? '' : money(last.minimumNano),
    unbilled: (last?.unbilled ?? []).join(', '),
    prices: (last?.prices ?? []).map(priceDraft),
  }
}

function priceDraft(price: PriceInput): PriceDraft {
  const blank = { ...newPrice('', ''), id: price.id, model: price.model }
  if (price.model === 'flat') return { ...blank, amount: money(price.amountNano) }
  const match = Object.entries(price.match ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(', ')
  const metered = { ...blank, meter: price.meter, match }
  if (price.model === 'cost_plus') return { ...metered, markup: decimalOf(BigInt(price.markupPpm), 10_000n) ?? '' }
  const per = price.model === 'package' ? price.packageSize : price.per
  const free = price.freeQuantity === undefined || price.freeQuantity === '0' ? '' : unitsText(price.freeQuantity, per)
  if (price.model === 'per_unit' || price.model === 'package')
    return { ...metered, per, free, amount: money(price.amountNano) }
  return {
    ...metered,
    per,
    free,
    tiers: price.tiers.map(tier => ({
      key: newKey(),
      upTo: tier.upTo === null ? '' : unitsText(tier.upTo, per),
      amount: money(tier.amountNano),
      flat: tier.flatNano === undefined || tier.flatNano === '0' ? '' : money(tier.flatNano),
    })),
  }
}

/** The version to send, or what is wrong where. */
export function versionFrom(draft: VersionDraft): { version: VersionInput | null; problems: FieldProblems } {
  const problems: Record<string, string> = {}
  const say = (path: string, parse: () => string): string => {
    try {
      return parse()
    } catch (error) {
      problems[path] = error instanceof Error ? error.message : 'is not valid'
      return '0'
    }
  }
  const version: VersionInput = {
    effectiveFrom: say('effectiveFrom', () => instantFrom(draft.effectiveFrom)),
    gapPolicy: draft.gapPolicy,
    minimumNano: say('minimumNano', () => nano(draft.minimum || '0')),
    unbilled: namesIn(draft.unbilled),
    prices: draft.prices.map((price, i) => priceFrom(price, `prices.${i}`, say)),
  }
  return { version: Object.keys(problems).length === 0 ? version : null, problems }
}

type Say = (path: string, parse: () => string) => string

/** One price; fields that cannot be read are said, and stand in as 0. */
function priceFrom(draft: PriceDraft, path: string, say: Say): PriceInput {
  const { id, model, meter, per } = draft
  const amountNano = () => say(`${path}.amountNano`, () => nano(draft.amount))
  if (model === 'flat') return { id, model, amountNano: amountNano() }
  const match = matchFrom(draft.match)
  if (match === null) say(`${path}.match`, () => fail('is written as name=value, name=value'))
  const metered = { id, meter, match: match ?? {} }
  if (model === 'cost_plus') {
    const markupPpm = Number(say(`${path}.markupPpm`, () => scaled(draft.markup || '0', 10_000n, 'percent')))
    return { ...metered, model, markupPpm }
  }
  const freeQuantity = say(`${path}.freeQuantity`, () => unitsFrom(draft.free || '0', per))
  if (model === 'package') return { ...metered, model, packageSize: per, amountNano: amountNano(), freeQuantity }
  if (model === 'per_unit') return { ...metered, model, per, amountNano: amountNano(), freeQuantity }
  const tiers = draft.tiers.map((tier, i) => ({
    upTo:
      tier.upTo.trim() === '' && i === draft.tiers.length - 1
        ? null
        : say(`${path}.tiers.${i}.upTo`, () => unitsFrom(tier.upTo, per)),
    amountNano: say(`${path}.tiers.${i}.amountNano`, () => nano(tier.amount)),
    flatNano: say(`${path}.tiers.${i}.flatNano`, () => nano(tier.flat || '0')),
  }))
  return { ...metered, model, per, tiers, freeQuantity }
}

/** The one price, as far as it can be read; for the graph that moves while one types. */
export function drawablePrice(draft: PriceDraft): PriceInput | null {
  let isWhole = true
  const price = priceFrom(draft, '', (_, parse) => {
    try {
      return parse()
    } catch {
      isWhole = false
      return '0'
    }
  })
  return isWhole ? price : null
}

/** `prices.2.amountNano: is not a whole number.` from the service, as field and message. */
export function problemOf(detail: string): { field: string; message: string } | null {
  const match = /^([A-Za-z]\w*(?:\.\w+)*): (.+)$/s.exec(detail)
  return match ? { field: match[1] ?? '', message: match[2] ?? '' } : null
}

/** Base units as text in a unit: `100`, `0.5`, or `12345 base` where no short decimal says it. */
export function unitsText(base: string, per: string): string {
  return decimalOf(BigInt(base), BigInt(per)) ?? `${base} base`
}

export function unitsFrom(text: string, per: string): string {
  const base = /^(\d{1,30}) base$/.exec(text.trim())
  return base?.[1] ?? scaled(text, BigInt(per === '' ? '1' : per), 'units')
}

function scaled(text: string, per: bigint, what: string): string {
  const match = /^(\d{1,30})(?:\.(\d{1,9}))?$/.exec(text.trim())
  if (!match) return fail(`is not a number of ${what} such as 100 or 0.5`)
  const [, whole = '0', fraction = ''] = match
  const scale = 10n ** BigInt(fraction.length)
  const dividend = BigInt(whole + fraction) * per
  if (dividend % scale !== 0n) return fail('is not a whole number of base units; write it as "12345 base"')
  return `${dividend / scale}`
}

function decimalOf(n: bigint, per: bigint): string | null {
  if (per <= 0n) return null
  const whole = n / per
  const rest = (n % per) * 1_000_000_000n
  if (rest % per !== 0n) return null
  const fraction = (rest / per).toString().padStart(9, '0').replace(/0+$/, '')
  return fraction === '' ? `${whole}` : `${whole}.${fraction}`
}

function money(nanoText: string): string {
  return formatUsd(BigInt(nanoText))
}

function nano(text: string): string {
  if (!/^\d{1,20}(?:\.\d{1,9})?$/.test(text.trim())) return fail('is not an amount such as 0.10')
  return `${nanoFromUsd(text.trim())}`
}

/** A day is its first hour in UTC. */
function instantFrom(text: string): string {
  const day = /^\d{4}-\d\d-\d\d$/.test(text.trim()) ? `${text.trim()}T00:00:00Z` : text.trim()
  const ms = Date.parse(day)
  if (Number.isNaN(ms)) return fail('is not a time such as 2026-12-01T00:00:00Z')
  return new Date(ms).toISOString()
}

function matchFrom(text: string): Record<string, string> | null {
  const pairs = text
    .split(',')
    .map(pair => pair.trim())
    .filter(pair => pair !== '')
    .map(pair => /^([^=]+)=(.*)$/.exec(pair))
  if (pairs.some(pair => pair === null)) return null
  return Object.fromEntries(pairs.map(pair => [pair?.[1]?.trim() ?? '', pair?.[2]?.trim() ?? '']))
}

function namesIn(text: string): string[] {
  return text
    .split(/[,\s]+/)
    .map(name => name.trim())
    .filter(name => name !== '')
}

function fail(message: string): never {
  throw new Error(message)
}

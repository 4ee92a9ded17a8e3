import { formatUsd } from '#platform/money'
import type { Price } from './plan.ts'

// How people say quantities and prices: 123.45 core-hours at USD 0.10, not 444,420,000,000,000 ns. Only words: what is
// charged is worked out in base units, and every text here that is cut is cut downwards.

export interface DisplayUnit {
  one: string
  many: string
  /** Base units of the meter in one of it. */
  base: bigint
}

const gib = 1n << 30n
const hourNs = 3_600_000_000_000n
const unit = (one: string, base: bigint, many = one): DisplayUnit => ({ one, many, base })

/** By base unit; the first is the usual one, the others are taken when a price is made in them. */
const known = new Map<string, readonly DisplayUnit[]>(
  Object.entries({
    ns: [
      unit('hour', hourNs, 'hours'),
      unit('minute', hourNs / 60n, 'minutes'),
      unit('second', hourNs / 3600n, 'seconds'),
    ],
    'byte-ns': [unit('GiB-hour', gib * hourNs, 'GiB-hours'), unit('GB-hour', 1_000_000_000n * hourNs, 'GB-hours')],
    bytes: [
      unit('GiB', gib),
      unit('GB', 1_000_000_000n),
      unit('TiB', gib << 10n),
      unit('TB', 1_000_000_000_000n),
      unit('MiB', 1n << 20n),
      unit('MB', 1_000_000n),
    ],
    ms: [unit('minute', 60_000n, 'minutes'), unit('hour', 3_600_000n, 'hours'), unit('second', 1000n, 'seconds')],
    nano: [unit('currency unit', 1_000_000_000n, 'currency units')],
    'byte-s': [unit('GiB-hour', gib * 3600n, 'GiB-hours'), unit('GB-hour', 3_600_000_000_000n, 'GB-hours')],
  }),
)
const ofCpu: readonly DisplayUnit[] = [
  unit('core-hour', hourNs, 'core-hours'),
  unit('core-minute', hourNs / 60n, 'core-minutes'),
  unit('core-second', hourNs / 3600n, 'core-seconds'),
]

/** `per`: what a price is for, in base units. */
export function displayUnit(meter: string, baseUnit: string, per: bigint | null): DisplayUnit {
  const units = meter === 'vm_cpu' ? ofCpu : known.get(baseUnit)
  if (units !== undefined) {
    const priced = units.find(({ base }) => base === per)
    const [usual] = units
    if (priced !== undefined) return priced
    if (usual !== undefined && (per === null || per % usual.base === 0n)) return usual
  }
  const name = baseUnit === '' ? 'unit' : baseUnit
  return unit(/[^s]s$/.test(name) ? name.slice(0, -1) : name, 1n, name === 'unit' ? 'units' : name)
}

/** Base units in one of a unit that people name, or null when the meter is not counted in it. */
export function unitNamed(meter: string, baseUnit: string, name: string): bigint | null {
  if (name === baseUnit) return 1n
  const units = meter === 'vm_cpu' ? ofCpu : (known.get(baseUnit) ?? [])
  return units.find(({ one, many }) => one === name || many === name)?.base ?? null
}

/** At most `digits` behind the point, cut and not rounded up; more when nothing else would be left of it. */
export function formatQuantity(quantityE9: bigint, { base }: DisplayUnit, digits: number): string {
  const magnitude = quantityE9 < 0n ? -quantityE9 : quantityE9
  const cutTo = (places: number) => (magnitude * 10n ** BigInt(places)) / (base * 1_000_000_000n)
  const places = cutTo(digits) === 0n ? 12 : digits
  const text = `${cutTo(places)}`.padStart(places + 1, '0')
  const fraction = places === 0 ? '' : text.slice(-places).replace(/0+$/, '')
  const whole = groupDigits(text.slice(0, text.length - places))
  const shown = fraction === '' ? whole : `${whole}.${fraction}`
  return quantityE9 < 0n && shown !== '0' ? `−${shown}` : shown
}

/** The same with its unit: 1 core-hour, 2.5 core-hours. */
export function quantityText(quantityE9: bigint, display: DisplayUnit, digits: number): string {
  const text = formatQuantity(quantityE9, display, digits)
  return `${text} ${text === '1' ? display.one : display.many}`
}

/** 1234567 as 1,234,567. */
export function groupDigits(whole: string): string {
  return whole.replace(/\B(?=(\d{3})+$)/g, ',')
}

/** What a price says, in a line: "USD 0.10 per core-hour". */
export function priceText(price: Price, currency: string, baseUnit: string): string {
  const amount = (nano: bigint) => `${currency} ${priceAmount(nano)}`
  if (price.model === 'flat') return `${amount(price.amountNano)} a period`
  if (price.model === 'cost_plus')
    return price.markupPpm === 0 ? 'at cost' : `at cost plus ${percent(BigInt(price.markupPpm))} %`
  const per = price.model === 'package' ? price.packageSize : price.per
  const display = displayUnit(price.meter, baseUnit, per)
  const each = perText(per, display)
  const free =
    price.freeQuantity === 0n
      ? ''
      : `, the first ${quantityText(price.freeQuantity * 1_000_000_000n, display, 4)} of a period free`
  switch (price.model) {
    case 'per_unit':
      return `${amount(price.amountNano)} per ${each}${free}`
    case 'package':
      return `${amount(price.amountNano)} for every ${each} begun${free}`
    case 'graduated':
    case 'volume': {
      const tiers = price.tiers.map(({ upTo, amountNano, flatNano }) => {
        const bound = upTo === null ? 'above' : `up to ${quantityText(upTo * 1_000_000_000n, display, 4)}`
        return `${bound} ${amount(amountNano)}${flatNano === 0n ? '' : ` and ${amount(flatNano)} once`}`
      })
      const all = price.model === 'volume' ? ', all of it at the tier reached' : ''
      return `per ${each}: ${tiers.join(', ')}${all}${free}`
    }
    default:
      return price satisfies never
  }
}

/** 'core-hour', '1,000 tokens'. */
export function perText(per: bigint, display: DisplayUnit): string {
  if (per === display.base) return display.one
  return quantityText(per * 1_000_000_000n, display, 9)
}

/** At least two digits behind the point: prices read 0.10. */
export function priceAmount(nano: bigint): string {
  const [whole = '', fraction = ''] = formatUsd(nano).split('.')
  return `${whole.replace(/^(-?)(\d+)$/, (_, sign: string, digits: string) => sign + groupDigits(digits))}.${fraction.padEnd(2, '0')}`
}

export function percent(ppm: bigint): string {
  const fraction = `${ppm % 10_000n}`.padStart(4, '0').replace(/0+$/, '')
  return `${ppm / 10_000n}${fraction === '' ? '' : `.${fraction}`}`
}

/** A map: what senders call their meters may be the name of something every object has. */
const meterTitles = new Map(
  Object.entries({
    vm_cpu: 'CPU',
    vm_memory: 'Memory',
    vm_memory_peak: 'Peak memory',
    vm_disk_read: 'Disk reads',
    vm_disk_write: 'Disk writes',
    vm_net_rx: 'Network in',
    vm_net_tx: 'Network out',
    vm_alive: 'VM time',
    build_ms: 'Build time',
    build_count: 'Builds',
    build_pull_bytes: 'Image pulls',
    artifact_byte_seconds: 'Artifact storage',
    log_bytes: 'Log volume',
    log_entries: 'Log entries',
    ai_cost: 'AI usage',
    ai_tokens: 'AI tokens',
    ai_requests: 'AI requests',
  }),
)

/** What a charge is called on an invoice. */
export function chargeTitle(meter: string | null, priceId: string | null): string {
  const title = meter === null ? undefined : meterTitles.get(meter)
  if (title !== undefined) return title
  const text = (priceId ?? meter ?? '').replaceAll(/[-_.]+/g, ' ').trim()
  return text.charAt(0).toUpperCase() + text.slice(1)
}

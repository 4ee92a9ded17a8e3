import { z } from 'zod'

// Plans as customers write them: amounts and quantities are decimal strings of whole base units, so that no JSON
// reader on the way rounds them. `version` is what a plan says from a time on; a used version never changes.

const whole = z
  .string()
  .regex(/^\d{1,30}$/, 'is not a whole number of at most 30 digits, written as a string')
  .transform(BigInt)
const positive = whole.refine(n => n > 0n, 'must be above 0')
const id = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'must be 1–63 of a-z 0-9 . _ - and begin with a letter or digit')
const meter = z.string().regex(/^[a-z0-9_]{1,63}$/, 'is not a meter slug (1–63 of a-z 0-9 _)')
const match = z.record(z.string().min(1).max(63), z.string().max(255)).default({})
const freeQuantity = whole.default(0n)

const tiers = z
  .array(z.strictObject({ upTo: positive.nullable(), amountNano: whole, flatNano: whole.default(0n) }))
  .min(1)
  .max(100)
  .refine(list => list.at(-1)?.upTo === null, 'the last tier must have "upTo": null')
  .refine(
    list =>
      list.every((tier, i) => i === list.length - 1 || (tier.upTo !== null && tier.upTo > (list[i - 1]?.upTo ?? 0n))),
    'bounds must rise from tier to tier',
  )

export const priceSchema = z.discriminatedUnion('model', [
  z.strictObject({ id, model: z.literal('flat'), amountNano: whole }),
  z.strictObject({ id, model: z.literal('per_unit'), meter, match, per: positive, amountNano: whole, freeQuantity }),
  z.strictObject({ id, model: z.literal('graduated'), meter, match, per: positive, tiers, freeQuantity }),
  z.strictObject({ id, model: z.literal('volume'), meter, match, per: positive, tiers, freeQuantity }),
  z.strictObject({
    id,
    model: z.literal('package'),
    meter,
    match,
    packageSize: positive,
    amountNano: whole,
    freeQuantity,
  }),
  z.strictObject({
    id,
    model: z.literal('cost_plus'),
    meter,
    match,
    markupPpm: z.int('must be a whole number of millionths').min(0).max(1_000_000_000),
  }),
])

export const versionSchema = z.strictObject({
  effectiveFrom: z.iso
    .datetime({ offset: true })
    .transform(text => Date.parse(text))
    .refine(ms => ms % 3_600_000 === 0, 'must be a whole hour in UTC: a change splits the period at an hour'),
  gapPolicy: z.enum(['zero', 'floor', 'interpolate']).default('zero'),
  minimumNano: whole.default(0n),
  /** Meters this plan measures and does not bill. */
  unbilled: z.array(meter).max(200).default([]),
  prices: z
    .array(priceSchema)
    .max(500)
    .refine(prices => new Set(prices.map(price => price.id)).size === prices.length, 'price ids must differ'),
})

export const planSchema = z.strictObject({
  id,
  name: z.string().min(1).max(200),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, 'is not an ISO 4217 code such as USD')
    .default('USD'),
})

export type Price = z.output<typeof priceSchema>
export type PlanVersion = z.output<typeof versionSchema>
export type GapPolicy = PlanVersion['gapPolicy']

/** As it was written, for storing and showing; parses back to the same version. */
export function versionJson(version: PlanVersion): VersionJson {
  const text = JSON.stringify(version, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))
  return { ...JSON.parse(text), effectiveFrom: new Date(version.effectiveFrom).toISOString() }
}

type VersionJson = Pick<PlanVersion, 'gapPolicy' | 'unbilled'> & {
  effectiveFrom: string
  minimumNano: string
  prices: Record<string, unknown>[]
}

/** Shipped with every installation and assigned to nobody. */
export const examplePlan = {
  id: 'example',
  name: 'Example: CPU 0.10 per core-hour, memory 0.05 per GiB-hour, disk 0.10 and network 0.15 per GiB',
  currency: 'USD',
  version: {
    effectiveFrom: '2000-01-01T00:00:00Z',
    gapPolicy: 'zero',
    minimumNano: '0',
    unbilled: [],
    prices: [
      { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' },
      // 1 GiB-hour = 2³⁰ bytes × 3,600 × 10⁹ ns
      { id: 'memory', model: 'per_unit', meter: 'vm_memory', per: '3865470566400000000000', amountNano: '50000000' },
      { id: 'disk-read', model: 'per_unit', meter: 'vm_disk_read', per: '1073741824', amountNano: '100000000' },
      { id: 'disk-write', model: 'per_unit', meter: 'vm_disk_write', per: '1073741824', amountNano: '100000000' },
      { id: 'net-rx', model: 'per_unit', meter: 'vm_net_rx', per: '1073741824', amountNano: '150000000' },
      { id: 'net-tx', model: 'per_unit', meter: 'vm_net_tx', per: '1073741824', amountNano: '150000000' },
    ],
  },
} as const

import { arrayLiteral, type Sql } from '#platform/postgres'
import { e9, parseDecimal, readDecimal } from '../decimal.ts'
import type { Meter } from '../events/meter.ts'

// What a meter makes of the events between edges. Exact: sums are numerics, averages are floored to a billionth.

export interface MeterQuery {
  /** Ascending Unix ns; rows are per span between neighbours. */
  edges: readonly bigint[]
  /** Null: of all customers. */
  customerId: string | null
  /** Only of these; empty: of all. */
  subjects: readonly string[]
  /** Only of these customers; absent or empty: of all. */
  customers?: readonly string[]
  /** Names of the meter's groups. */
  groupBy: readonly string[]
  /** Group name → values of which one must be there. */
  filters: Readonly<Record<string, readonly string[]>>
  bySubject: boolean
  byCustomer: boolean
  /** Only events and voids that had come in by then. */
  asOf?: Date
}

export interface MeterRow {
  span: number
  subject: string | null
  customerId: string | null
  group: Record<string, string>
  quantityE9: bigint
}

export async function queryMeter(sql: Sql, meter: Meter, query: MeterQuery): Promise<MeterRow[]> {
  const { edges } = query
  const [fromNs, toNs] = [edges[0], edges.at(-1)]
  if (fromNs === undefined || toNs === undefined || fromNs === toNs) return []
  if (meter.aggregation === 'WEIGHTED_SUM') return weightedSums(sql, meter, query)
  const counted = countedEvents(sql, meter, query, meterStart(meter, fromNs), toNs)
  const rows = await sql<RawRow[]>`
    select width_bucket(at_ns, ${arrayLiteral(edges)}::text::int8[]) - 1 as span, subject, "customerId", "group",
      (${aggregate(sql, meter)})::text as value
    from (${counted}) c group by 1, 2, 3, 4 order by 1, 2, 3, 4`
  return rows.map(row => ({ ...row, quantityE9: readValue(row.value) }))
}

interface RawRow {
  span: number
  subject: string | null
  customerId: string | null
  group: Record<string, string>
  value: string
}

function meterStart(meter: Meter, fromNs: bigint): bigint {
  return meter.eventFromNs !== undefined && meter.eventFromNs !== null && meter.eventFromNs > fromNs
    ? meter.eventFromNs
    : fromNs
}

function readValue(value: string): bigint {
  // A sum may be larger than any one event.
  return parseDecimal(value) ?? readDecimal(value)
}

/** One row per identity that counts: at, digest, value, text (of UNIQUE_COUNT), subject, customer and group. */
function countedEvents(sql: Sql, meter: Meter, query: MeterQuery, fromNs: bigint, toNs: bigint) {
  const conditions = Object.entries(query.filters).map(([name, values]) => {
    const path = meter.groupBy[name] ?? []
    return sql`and coalesce(e.data #>> ${arrayLiteral(path)}::text::text[], '') = any (${arrayLiteral(values)}::text::text[])`
  })
  const { asOf } = query
  const received = (row: 'e' | 'o') =>
    asOf === undefined ? sql`` : row === 'e' ? sql`and e.received_at <= ${asOf}` : sql`and o.received_at <= ${asOf}`
  const text = sql`e.data #>> ${arrayLiteral(meter.valuePaths[0] ?? [])}::text::text[]`
  return sql`
    select e.at_ns, e.digest, ${eventValue(sql, meter, 'e')} as value, ${text} as text,
      ${query.bySubject ? sql`e.subject` : sql`null::text`} as subject,
      ${query.byCustomer ? sql`e.customer_id` : sql`null::text`} as "customerId",
      ${groupOf(sql, meter, query.groupBy)} as "group"
    from billaged.usage_event e
    where e.type = ${meter.eventType} and e.at_ns >= ${fromNs} and e.at_ns < ${toNs} and e.customer_id is not null
      ${received('e')}
      ${query.customerId === null ? sql`` : sql`and e.customer_id = ${query.customerId}`}
      ${query.subjects.length === 0 ? sql`` : sql`and coalesce(e.subject, e.customer_id) = any (${arrayLiteral(query.subjects)}::text::text[])`}
      ${query.customers?.length ? sql`and e.customer_id = any (${arrayLiteral(query.customers)}::text::text[])` : sql``}
      ${conditions.reduce((all, one) => sql`${all} ${one}`, sql``)}
      and ${eventValue(sql, meter, 'e')} is not null
      and not exists (
        select 1 from billaged.usage_event o
        where o.source = e.source and o.id = e.id and o.digest <> e.digest and o.type = e.type ${received('o')}
          and (${eventValue(sql, meter, 'o')}, o.digest) < (${eventValue(sql, meter, 'e')}, e.digest)
      )
      and not exists (
        select 1 from billaged.usage_void v
        where v.source = e.source and v.id = e.id ${asOf === undefined ? sql`` : sql`and v.voided_at <= ${asOf}`})`
}

/** The meter's value of an event; null when it has none. */
function eventValue(sql: Sql, meter: Meter, row: 'e' | 'o') {
  const data = row === 'e' ? sql`e.data` : sql`o.data`
  const texts = meter.valuePaths.map(path => sql`(${data} #>> ${arrayLiteral(path)}::text::text[])`)
  const [first = sql`null::text`] = texts
  if (meter.aggregation === 'COUNT') return sql`1::numeric`
  if (meter.aggregation === 'UNIQUE_COUNT') {
    const path = arrayLiteral(meter.valuePaths[0] ?? [])
    return sql`case when jsonb_typeof(${data} #> ${path}::text::text[]) in ('string', 'number', 'boolean') then 1::numeric end`
  }
  if (texts.length === 1) return sql`billaged.exact_decimal(${first})`
  const isWhole = texts
    .map(text => sql`(${text} is null or billaged.exact_decimal(${text}) is not null)`)
    .reduce((all, one) => sql`${all} and ${one}`)
  const total = texts
    .map(text => sql`coalesce(billaged.exact_decimal(${text}), 0)`)
    .reduce((all, one) => sql`${all} + ${one}`)
  return sql`case when ${isWhole} and coalesce(${texts.reduce((all, one) => sql`${all}, ${one}`)}) is not null then ${total} end`
}

function aggregate(sql: Sql, meter: Meter) {
  switch (meter.aggregation) {
    case 'SUM':
      return sql`sum(value)`
    case 'COUNT':
      return sql`count(*)`
    case 'UNIQUE_COUNT':
      return sql`count(distinct text)`
    case 'MIN':
      return sql`min(value)`
    case 'MAX':
      return sql`max(value)`
    case 'LATEST':
      return sql`(array_agg(value order by at_ns desc, digest desc))[1]`
    case 'AVG':
      // floor() of a quotient would floor a rounded one; div() is exact and cuts towards zero.
      return sql`(div(sum(value) * 1000000000, count(*))
        - case when sum(value) < 0 and mod(sum(value) * 1000000000, count(*)) <> 0 then 1 else 0 end) * 0.000000001`
    case 'WEIGHTED_SUM':
      throw new Error('BUG: levels are integrated, not aggregated')
    default:
      return meter.aggregation satisfies never
  }
}

function groupOf(sql: Sql, meter: Meter, names: readonly string[]) {
  if (names.length === 0) return sql`'{}'::jsonb`
  const pairs = names.map(
    name => sql`${name}::text, coalesce(e.data #>> ${arrayLiteral(meter.groupBy[name] ?? [])}::text::text[], '')`,
  )
  return sql`jsonb_build_object(${pairs.reduce((list, pair) => sql`${list}, ${pair}`)})`
}

/** A level over time, set or changed by each event and carried over, integrated and divided by the span's length. */
async function weightedSums(sql: Sql, meter: Meter, query: MeterQuery): Promise<MeterRow[]> {
  const { edges } = query
  const toNs = edges.at(-1) ?? 0n
  // Levels are carried over from all that came before.
  const events = await sql<(RawRow & { atNs: bigint })[]>`
    select at_ns as "atNs", value::text, subject, "customerId", "group"
    from (${countedEvents(sql, meter, query, meterStart(meter, 0n), toNs)}) c
    order by subject, "customerId", "group", at_ns, digest`
  const rows: MeterRow[] = []
  const groups = Map.groupBy(events, ({ subject, customerId, group }) => JSON.stringify([subject, customerId, group]))
  for (const own of groups.values()) {
    const [first] = own
    if (first === undefined) continue
    const levels = own.map(event => ({ atNs: event.atNs, valueE9: readValue(event.value) }))
    for (const [span, quantityE9] of integrate(levels, edges, meter.valueMode ?? 'set').entries())
      rows.push({ span, subject: first.subject, customerId: first.customerId, group: first.group, quantityE9 })
  }
  return rows.toSorted((a, b) => a.span - b.span)
}

/** Exported for its test. Events are in order of time; a result per span, floored to a billionth. */
export function integrate(
  events: readonly { atNs: bigint; valueE9: bigint }[],
  edges: readonly bigint[],
  mode: 'set' | 'delta',
): bigint[] {
  const areas = edges.slice(1).map(() => 0n)
  let level = 0n
  const stretch = (fromNs: bigint, toNs: bigint) => {
    for (const [i, end] of edges.slice(1).entries()) {
      const start = edges[i] ?? end
      const [from, to] = [fromNs > start ? fromNs : start, toNs < end ? toNs : end]
      if (to > from) areas[i] = (areas[i] ?? 0n) + level * (to - from)
    }
  }
  let atNs = edges[0] ?? 0n
  for (const event of events) {
    if (event.atNs > atNs) {
      stretch(atNs, event.atNs)
      atNs = event.atNs
    }
    level = mode === 'set' ? event.valueE9 : level + event.valueE9
  }
  stretch(atNs, edges.at(-1) ?? atNs)
  return areas.map((area, i) => floorDiv(area, (edges[i + 1] ?? e9) - (edges[i] ?? 0n)))
}

function floorDiv(a: bigint, b: bigint): bigint {
  const quotient = a / b
  return a < 0n && quotient * b !== a ? quotient - 1n : quotient
}

/** When the meter's first event was; null without any. */
export async function firstEventNs(sql: Sql, meter: Meter): Promise<bigint | null> {
  const [row] = await sql<{ atNs: bigint | null }[]>`
    select min(at_ns) as "atNs" from billaged.usage_event where type = ${meter.eventType}`
  return row?.atNs ?? null
}

const valuesMax = 1_000

export async function subjectsOf(sql: Sql, meter: Meter, only: string | null): Promise<string[]> {
  const rows = await sql<{ subject: string }[]>`
    select distinct coalesce(subject, customer_id) as subject from billaged.usage_event
    where type = ${meter.eventType} and customer_id is not null and (${only}::text is null or customer_id = ${only})
    order by 1 limit ${valuesMax}`
  return rows.map(row => row.subject)
}

export async function groupValues(sql: Sql, meter: Meter, name: string, only: string | null): Promise<string[]> {
  const rows = await sql<{ value: string }[]>`
    select distinct data #>> ${arrayLiteral(meter.groupBy[name] ?? [])}::text::text[] as value from billaged.usage_event
    where type = ${meter.eventType} and customer_id is not null and (${only}::text is null or customer_id = ${only})
    order by 1 limit ${valuesMax}`
  return rows.map(row => row.value).filter(value => value !== null)
}

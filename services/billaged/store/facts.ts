import type { JournalPosition } from '#platform/journal'
import { arrayLiteral, copyBinary, copyRows, type Sql, type Tx } from '#platform/postgres'
import { customerOf, digestEvent, type UsageEvent } from '../events/cloud-event.ts'
import { type Meter, validationError } from '../events/meter.ts'
import type { Aside, Fact } from '../intake/record.ts'
import { samplePayload } from '../intake/validate.ts'
import { decodeIntact, digestPart } from '../samples/part.ts'
import { compareSamples } from '../samples/sample.ts'
import { insertAsides } from './asides.ts'
import { forgetHours, lockSeries, type Touch } from './invalidate.ts'
import { partColumns, partRows } from './part-rows.ts'
import { customersOfSubjects, shareSubjects } from './subjects.ts'

export interface FoldedCounts {
  samples: number
  /** Elements that were there already: retries, replays, other replicas. */
  duplicateSamples: number
  /** Instants of a VM for which what was added says something else than what was there. */
  conflicts: number
  /** Samples of hours that are sealed: set aside. */
  expired: number
  events: number
  duplicateEvents: number
}

/** Writes a batch of facts and the journal position behind it in one transaction. Writing the same again changes
 *  nothing but the position. */
export async function writeFacts(
  sql: Sql,
  facts: readonly Fact[],
  o: {
    replica: string
    position: JournalPosition
    meters: readonly Meter[]
    leaseNs: bigint
    /** Whether a part may overlap one that is there; only those are compared. */
    mayOverlap?: (fact: Of<'samples'>) => boolean
  },
): Promise<FoldedCounts> {
  const counts = await sql.begin(async tx => {
    const customerOfEvent = await resolveSubjects(tx, facts)
    await insertCustomers(tx, facts, customerOfEvent)
    const touches = await touchesOf(tx, facts, o.leaseNs)
    await lockSeries(tx, [...facts.filter(isKind('samples')).map(touchOfPart), ...touches])
    const samples = await insertParts(tx, facts.filter(isKind('samples')), o.mayOverlap ?? (() => false))
    await insertMarks(tx, facts.filter(isKind('mark')))
    await insertLeases(tx, facts.filter(isKind('heartbeat')), o.leaseNs)
    await forgetHours(tx, touches)
    const events = await insertEvents(tx, facts.filter(isKind('event')), o.meters, customerOfEvent)
    const asides = facts.filter(isKind('aside')).map(({ aside }) => aside)
    await insertAsides(tx, asides, subject => customerOfEvent({ subject, data: null }))
    await tx`
      insert into billaged.journal_checkpoint (replica, segment, "offset", folded_at)
      values (${o.replica}, ${o.position.segment}, ${o.position.offset}, now())
      on conflict (replica) do update
      set segment = excluded.segment, "offset" = excluded."offset", folded_at = excluded.folded_at`
    return { ...samples, ...events }
  })
  return counts
}

export type Of<K extends Fact['kind']> = Extract<Fact, { kind: K }>

function isKind<K extends Fact['kind']>(kind: K) {
  return (fact: Fact): fact is Of<K> => fact.kind === kind
}

const touchOfPart = ({ customerId, vmId, part }: Of<'samples'>): Touch => {
  return { customerId, vmId, fromNs: part.minNs, toNs: part.maxNs }
}

/** Which VMs some facts are about, and from when on they may change what was known of them. */
export function touchesOfFacts(facts: readonly Fact[]): Touch[] {
  return facts.flatMap((fact): Touch[] => {
    switch (fact.kind) {
      case 'samples':
        return [touchOfPart(fact)]
      case 'mark':
        return [{ vmId: fact.vmId, customerId: fact.customerId, fromNs: fact.atNs, toNs: null }]
      case 'heartbeat':
        return fact.vmIds.map(vmId => ({ vmId, customerId: null, fromNs: fact.atNs, toNs: null }))
      case 'event':
      case 'aside':
        return []
      default:
        return fact satisfies never
    }
  })
}

/** What marks and heartbeats change; parts say so themselves when they are news. */
async function touchesOf(tx: Tx, facts: readonly Fact[], leaseNs: bigint): Promise<Touch[]> {
  const touches: Touch[] = []
  const listings = new Map<string, { fromNs: bigint; toNs: bigint }>()
  for (const fact of facts) {
    if (fact.kind === 'mark')
      touches.push({
        vmId: fact.vmId,
        customerId: fact.customerId,
        fromNs: fact.atNs,
        toNs: fact.untilNs !== null && fact.untilNs > fact.atNs ? fact.untilNs : fact.atNs,
      })
    if (fact.kind !== 'heartbeat') continue
    for (const vmId of fact.vmIds) {
      const { fromNs, toNs } = listings.get(vmId) ?? { fromNs: fact.atNs, toNs: fact.atNs }
      listings.set(vmId, {
        fromNs: fact.atNs < fromNs ? fact.atNs : fromNs,
        toNs: fact.atNs > toNs ? fact.atNs : toNs,
      })
    }
  }
  // From the first listing of all on it is known that a VM has a host, which may be down.
  const firsts = await firstListings(tx, listings)
  for (const [vmId, { fromNs, toNs }] of listings)
    touches.push({ vmId, customerId: null, fromNs, toNs: firsts.has(vmId) ? null : toNs + leaseNs })
  return touches
}

async function firstListings(tx: Tx, listings: ReadonlyMap<string, { fromNs: bigint }>): Promise<Set<string>> {
  if (listings.size === 0) return new Set()
  const rows = await tx<{ vmId: string }[]>`
    select vm_id as "vmId" from unnest(
      ${arrayLiteral([...listings.keys()])}::text::text[],
      ${arrayLiteral([...listings.values()].map(({ fromNs }) => fromNs))}::text::int8[]
    ) t (vm_id, from_ns)
    where not exists (
      select 1 from billaged.vm_lease l
      where l.vm_id = t.vm_id and l.day <= t.from_ns / ${dayNs} and lower(l.spans) <= t.from_ns
    )`
  return new Set(rows.map(({ vmId }) => vmId))
}

type CustomerOfEvent = (event: Pick<UsageEvent, 'subject' | 'data'>) => string | null

/** Whom each event is for, now: a mapped subject's customer, or what the event itself says (G29). */
async function resolveSubjects(tx: Tx, facts: readonly Fact[]): Promise<CustomerOfEvent> {
  const subjects = new Set<string>()
  for (const fact of facts) {
    if (fact.kind === 'event' && fact.event.subject !== null) subjects.add(fact.event.subject)
    if (fact.kind === 'aside' && fact.aside.what === 'event' && fact.aside.customerId !== null)
      subjects.add(fact.aside.customerId)
  }
  if (subjects.size === 0) return customerOf
  await shareSubjects(tx)
  const mapped = await customersOfSubjects(tx, [...subjects])
  return event => mapped.get(event.subject ?? '') ?? customerOf(event)
}

/** In the order of their ids, so that two replicas that insert the same ones wait for each other and never deadlock. */
async function insertCustomers(tx: Tx, facts: readonly Fact[], customerOfEvent: CustomerOfEvent) {
  const ids = new Set<string>()
  for (const fact of facts) {
    if (fact.kind === 'samples') ids.add(fact.customerId)
    if (fact.kind === 'mark' && fact.customerId !== null) ids.add(fact.customerId)
    if (fact.kind === 'event') {
      const id = customerOfEvent(fact.event)
      if (id !== null) ids.add(id)
    }
  }
  if (ids.size === 0) return
  await tx`
    insert into billaged.customer (id) select id from unnest(${arrayLiteral([...ids].toSorted())}::text::text[]) id order by id
    on conflict do nothing`
}

async function insertParts(tx: Tx, facts: readonly Of<'samples'>[], mayOverlap: (fact: Of<'samples'>) => boolean) {
  if (facts.length === 0) return { samples: 0, duplicateSamples: 0, conflicts: 0, expired: 0 }
  // PostgreSQL compresses bodies on their way through this table, by a third; as they come out they are stored.
  await tx`
    create temp table if not exists incoming_part (
      customer_id text, vm_id text, hour integer, digest bytea, n integer, min_ns bigint, max_ns bigint, summary bytea,
      body bytea
    ) on commit delete rows`
  await copyBinary(tx, { into: 'incoming_part', columns: partColumns, chunks: partRows(facts) })
  // First, so that what is set aside widens no span.
  const expired = await setExpiredAside(tx)
  await spanSeries(
    tx,
    tx`select customer_id, vm_id, min(min_ns) as first_ns, max(max_ns) as last_ns from incoming_part group by 1, 2`,
  )
  const conflicts = await countConflicts(tx, facts.filter(mayOverlap).slice(0, comparedPartsMax))
  const [row] = await tx<{ samples: bigint }[]>`
    with added as (
      insert into billaged.sample_part (series_id, hour, digest, n, min_ns, max_ns, summary, body)
      select series_id, hour, digest, n, min_ns, max_ns, summary, body
      from incoming_part join billaged.series using (customer_id, vm_id)
      order by series_id, hour, digest
      on conflict do nothing
      returning series_id, hour, n, min_ns, max_ns
    ), touched as (
      select series_id, min(min_ns) as from_ns, max(max_ns) as to_ns from added group by series_id
    ), gone as (
      -- As in invalidate.ts: through the index, series by series.
      delete from billaged.usage_hour where ctid = any(array(
        select u.at from touched t, lateral (
          select ctid as at from billaged.usage_hour
          where series_id = t.series_id and reads_to_ns >= t.from_ns and reads_from_ns <= t.to_ns offset 0
        ) u))
      returning series_id, hour
    ), queued as (
      insert into billaged.fold_queue (series_id, hour)
      select series_id, hour from added union select series_id, hour from gone
      on conflict do nothing
    )
    select coalesce(sum(n), 0)::int8 as samples from added`
  const samples = Number(row?.samples ?? 0n)
  return {
    samples,
    duplicateSamples: facts.reduce((sum, fact) => sum + fact.part.count, 0) - samples - expired,
    conflicts,
    expired,
  }
}

/** What falls in an hour whose samples have expired is for a person to decide about: the hour cannot be folded again. What
 *  is there already, to the byte, is no news. */
async function setExpiredAside(tx: Tx): Promise<number> {
  const rows = await tx<{ customerId: string; vmId: string; body: Buffer }[]>`
    delete from incoming_part i using (
      select p.ctid as at from incoming_part p join billaged.customer c on c.id = p.customer_id
        left join billaged.series s using (customer_id, vm_id)
      -- Of a VM that ended long ago nothing may be left but its customer.
      where p.hour < greatest(s.sealed_hour, c.usage_expired_hour) and not exists (
        select 1 from billaged.sample_part t where t.series_id = s.series_id and t.hour = p.hour and t.digest = p.digest)
    ) old where i.ctid = old.at
    returning i.customer_id as "customerId", i.vm_id as "vmId", i.body`
  if (rows.length === 0) return 0
  const [now] = await tx<{ ns: bigint }[]>`select (extract(epoch from now()) * 1000000000)::int8 as ns`
  if (now === undefined) throw new Error('BUG: a clock has the time')
  const receivedNs = now.ns
  const asides = rows.flatMap(({ customerId, vmId, body }) =>
    decodeIntact(body).map((sample): Aside => {
      const payload = samplePayload(sample)
      return { what: 'sample', customerId, vmId, reason: 'expired', receivedNs, payload }
    }),
  )
  await insertAsides(tx, asides, () => null)
  return asides.length
}

/** A VM id that a second customer begins to use: notices and heartbeats without tenant are told apart from now on, so
 *  nothing that was folded for the first one is sure any more. */
async function forgetSharers(tx: Tx, vmIds: readonly string[]) {
  if (vmIds.length === 0) return
  const shared = await tx<{ vmId: string }[]>`
    select vm_id as "vmId" from unnest(${arrayLiteral([...new Set(vmIds)])}::text::text[]) t (vm_id)
    join billaged.series using (vm_id) group by vm_id having count(*) > 1`
  const touches = shared.map(({ vmId }): Touch => ({ vmId, customerId: null, fromNs: 0n, toNs: null }))
  await lockSeries(tx, touches)
  await forgetHours(tx, touches)
}

/** Parts of one pass that are compared with what is there; beyond it conflicts are found when usage is read. */
const comparedPartsMax = 100

/** Before the parts are inserted: those that are there already, to the byte, hold no news. */
async function countConflicts(tx: Tx, facts: readonly Of<'samples'>[]): Promise<number> {
  let conflicts = 0
  for (const { customerId, vmId, part } of facts) {
    const digest = digestPart(part.body)
    const there = await tx<{ digest: Buffer; body: Buffer }[]>`
      select digest, body from billaged.sample_part join billaged.series using (series_id)
      where customer_id = ${customerId} and vm_id = ${vmId} and hour = ${part.hour}
        and min_ns <= ${part.maxNs} and max_ns >= ${part.minNs} limit 1000`
    if (there.length === 0 || there.some(row => digest.equals(row.digest))) continue
    const known = new Map(there.flatMap(row => decodeIntact(row.body)).map(sample => [sample.atNs, sample]))
    for (const sample of decodeIntact(part.body)) {
      const other = known.get(sample.atNs)
      if (other !== undefined && compareSamples(other, sample) !== 0) conflicts++
    }
  }
  return conflicts
}

/** Makes series, or widens them: `first_ns` is the earliest of its samples and its own start marks, `last_ns` the end of
 *  the minute that the latest lies in. Both depend on what there is alone, and not on the order it came in. Minutes, and no
 *  dead row for every second of a VM's life; of each VM id other ones, so that not all series are written at once. */
async function spanSeries(tx: Tx, spans: ReturnType<Tx>) {
  const grown = await tx<{ vmId: string; isNew: boolean }[]>`
    insert into billaged.series as s (customer_id, vm_id, first_ns, last_ns)
    select customer_id, vm_id, first_ns, last_ns + ${spanStepNs} - mod(last_ns + phase, ${spanStepNs}) from (
      -- 2^32 values of a hash over some 60 s; an operator may release a notice of the end of time.
      select customer_id, vm_id, first_ns, least(last_ns, 9200000000000000000) as last_ns,
        (hashtext(vm_id)::int8 + 2147483648) * 14 as phase
      from (${spans}) f
    ) t
    order by customer_id, vm_id
    on conflict (customer_id, vm_id) do update
    set first_ns = least(s.first_ns, excluded.first_ns), last_ns = greatest(s.last_ns, excluded.last_ns)
    where excluded.first_ns < s.first_ns or excluded.last_ns > s.last_ns
    returning vm_id as "vmId", xmax = 0 as "isNew"`
  await forgetSharers(
    tx,
    grown.filter(({ isNew }) => isNew).map(({ vmId }) => vmId),
  )
}

const spanStepNs = 60_000_000_000n

async function insertMarks(tx: Tx, facts: readonly Of<'mark'>[]) {
  if (facts.length === 0) return
  const column = (pick: (fact: Of<'mark'>) => string | bigint | null) => arrayLiteral(facts.map(pick))
  await tx`
    insert into billaged.vm_mark (vm_id, customer_id, kind, at_ns, until_ns)
    select * from unnest(
      ${column(fact => fact.vmId)}::text::text[], ${column(fact => fact.customerId)}::text::text[],
      ${column(fact => fact.mark)}::text::text[], ${column(fact => fact.atNs)}::text::int8[],
      ${column(fact => fact.untilNs)}::text::int8[]
    ) order by 1, 2, 3, 4, 5
    on conflict do nothing`
  // A VM that is started and never read is alive all the same.
  const started = facts.filter(fact => fact.mark === 'start' && fact.customerId !== null)
  if (started.length === 0) return
  await spanSeries(
    tx,
    tx`select customer_id, vm_id, min(at_ns) as first_ns, max(at_ns) as last_ns from unnest(
      ${arrayLiteral(started.map(fact => fact.customerId))}::text::text[],
      ${arrayLiteral(started.map(fact => fact.vmId))}::text::text[],
      ${arrayLiteral(started.map(fact => fact.atNs))}::text::int8[]
    ) m (customer_id, vm_id, at_ns) group by 1, 2`,
  )
}

const dayNs = 86_400_000_000_000n

async function insertLeases(tx: Tx, facts: readonly Of<'heartbeat'>[], leaseNs: bigint) {
  const spans = new Map<string, { vmId: string; instanceId: string; day: number; ranges: string[] }>()
  for (const { instanceId, atNs, vmIds } of facts) {
    for (const vmId of vmIds) {
      const day = Number(atNs / dayNs)
      const key = JSON.stringify([vmId, instanceId, day])
      const row = spans.get(key) ?? { vmId, instanceId, day, ranges: [] }
      row.ranges.push(`[${atNs},${atNs + leaseNs})`)
      spans.set(key, row)
    }
  }
  if (spans.size === 0) return
  const rows = [...spans.values()]
  await tx`
    insert into billaged.vm_lease as l (vm_id, instance_id, day, spans)
    select * from unnest(
      ${arrayLiteral(rows.map(row => row.vmId))}::text::text[], ${arrayLiteral(rows.map(row => row.instanceId))}::text::text[],
      ${arrayLiteral(rows.map(row => row.day))}::text::int4[],
      ${arrayLiteral(rows.map(row => `{${row.ranges.join()}}`))}::text::int8multirange[]
    ) order by 1, 2, 3
    on conflict (vm_id, instance_id, day) do update set spans = l.spans + excluded.spans
    where not l.spans @> excluded.spans`
}

async function insertEvents(
  tx: Tx,
  facts: readonly Of<'event'>[],
  meters: readonly Meter[],
  customerOfEvent: CustomerOfEvent,
) {
  if (facts.length === 0) return { events: 0, duplicateEvents: 0 }
  await tx`
    create temp table if not exists incoming_event (
      source text, id text, digest bytea, customer_id text, type text, subject text, at_ns bigint, data jsonb,
      received_at timestamptz, validation_error text
    ) on commit delete rows`
  await copyRows(tx, {
    into: 'incoming_event',
    columns: [
      'source',
      'id',
      'digest',
      'customer_id',
      'type',
      'subject',
      'at_ns',
      'data',
      'received_at',
      'validation_error',
    ],
    rows: facts.map(({ event, receivedNs }) => {
      const customerId = customerOfEvent(event)
      const problem = customerId === null ? 'no subject and no customer in data' : null
      return [
        event.source,
        event.id,
        digestEvent(event),
        customerId,
        event.type,
        event.subject,
        event.atNs,
        JSON.stringify(event.data),
        new Date(Number(receivedNs / 1_000_000n)),
        problem ?? validationError(meters, event.type, event.data),
      ]
    }),
  })
  const added = await tx`
    insert into billaged.usage_event
    select * from incoming_event order by source, id, digest
    on conflict do nothing returning 1`
  return { events: added.count, duplicateEvents: facts.length - added.count }
}

import { createHash } from 'node:crypto'
import { arrayLiteral, type Tx } from '#platform/postgres'
import { digestEvent } from '../events/cloud-event.ts'
import { eventOfAside, markOfAside, sampleOfAside } from '../intake/aside-payload.ts'
import type { Aside } from '../intake/record.ts'
import { decodeIntact } from '../samples/part.ts'
import { hourOf, type Sample } from '../samples/sample.ts'

// Writing what is set aside. What is stored already is no news, however late it is sent again (G3): it does not wait for a
// person, and keeps no period open.

export async function insertAsides(
  tx: Tx,
  asides: readonly Aside[],
  customerOfSubject: (subject: string | null) => string | null,
): Promise<void> {
  const news = await newsOf(tx, asides)
  for (let i = 0; i < news.length; i += rowsAtOnce) {
    const rows = news.slice(i, i + rowsAtOnce)
    const column = (pick: (aside: Aside) => string | null) => arrayLiteral(rows.map(pick))
    const digests = rows.map(
      ({ what, customerId, vmId, reason, payload }) =>
        `\\x${createHash('sha256')
          .update(JSON.stringify([what, customerId, vmId, reason, payload]))
          .digest('hex')}`,
    )
    await tx`
      insert into billaged.quarantine (digest, what, customer_id, vm_id, reason, payload, received_at)
      select digest, what, customer_id, vm_id, reason, payload::jsonb, received_at::timestamptz from unnest(
        ${arrayLiteral(digests)}::text::bytea[], ${column(({ what }) => what)}::text::text[],
        ${column(({ what, customerId }) => (what === 'event' ? customerOfSubject(customerId) : customerId))}::text::text[],
        ${column(({ vmId }) => vmId)}::text::text[], ${column(({ reason }) => reason)}::text::text[],
        ${column(({ payload }) => payload)}::text::text[],
        ${column(({ receivedNs }) => new Date(Number(receivedNs / 1_000_000n)).toISOString())}::text::text[]
      ) with ordinality t (digest, what, customer_id, vm_id, reason, payload, received_at, n)
      order by n
      on conflict do nothing`
  }
}

const rowsAtOnce = 1_000

/** In the order they came in. */
async function newsOf(tx: Tx, asides: readonly Aside[]): Promise<Aside[]> {
  const known = new Set<Aside>()
  const hours = new Map<string, SampleAside[]>()
  for (const aside of asides) {
    const { what, customerId, vmId, payload } = aside
    if (what === 'event' ? await isEventKnown(tx, payload) : what === 'mark' && (await isMarkKnown(tx, aside)))
      known.add(aside)
    const sample = what === 'sample' ? sampleOfAside(payload) : null
    if (sample === null) continue
    const key = JSON.stringify([customerId, vmId, hourOf(sample.atNs)])
    const group = hours.get(key)
    if (group === undefined) hours.set(key, [{ aside, sample }])
    else group.push({ aside, sample })
  }
  const expired = new Set<Aside>()
  for (const group of hours.values()) {
    const stored = await storedOf(tx, group)
    for (const { aside, sample } of group)
      if (stored.keys.has(keyOf(sample))) known.add(aside)
      else if (stored.isExpired && aside.reason === 'too_old') expired.add(aside)
  }
  return asides
    .filter(aside => !known.has(aside))
    .map(aside => (expired.has(aside) ? { ...aside, reason: 'expired' } : aside))
}

interface SampleAside {
  aside: Aside
  sample: Sample
}

/** Of one VM and hour: what is there, and whether its samples have expired. What is too old for intake and of such an hour as
 *  well is called the latter: it cannot be told apart from what was there, nor be folded any more. */
async function storedOf(tx: Tx, [first]: readonly SampleAside[]): Promise<{ keys: Set<string>; isExpired: boolean }> {
  const nothing = { keys: new Set<string>(), isExpired: false }
  if (first === undefined) return nothing
  const hour = hourOf(first.sample.atNs)
  const [series] = await tx<{ seriesId: bigint; firstHour: number; sealedHour: number }[]>`
    select series_id as "seriesId", (first_ns / 3600000000000)::int4 as "firstHour", sealed_hour as "sealedHour"
    from billaged.series where customer_id = ${first.aside.customerId} and vm_id = ${first.aside.vmId}`
  if (series === undefined) return nothing
  const parts = await tx<{ body: Buffer }[]>`
    select body from billaged.sample_part where series_id = ${series.seriesId} and hour = ${hour} limit ${partsMax}`
  return {
    keys: new Set(parts.flatMap(({ body }) => decodeIntact(body)).map(keyOf)),
    isExpired: series.firstHour <= hour && hour < series.sealedHour,
  }
}

/** Parts of one hour that are looked at: of a merged hour there is one. */
const partsMax = 4_000

function keyOf({ atNs, cpuNs, memoryBytes, diskReadBytes, diskWriteBytes, netRxBytes, netTxBytes }: Sample): string {
  return [atNs, cpuNs, memoryBytes, diskReadBytes, diskWriteBytes, netRxBytes, netTxBytes].join()
}

async function isEventKnown(tx: Tx, payload: string): Promise<boolean> {
  const event = eventOfAside(payload)
  const rows = await tx`
    select 1 from billaged.usage_event
    where source = ${event.source} and id = ${event.id} and digest = ${digestEvent(event)}`
  return rows.count > 0
}

async function isMarkKnown(tx: Tx, { customerId, vmId, payload }: Aside): Promise<boolean> {
  const said = markOfAside(payload)
  if (said === null) return false
  const { mark, atNs, untilNs } = said
  const rows = await tx`
    select 1 from billaged.vm_mark
    where vm_id = ${vmId} and customer_id is not distinct from ${customerId} and kind = ${mark} and at_ns = ${atNs}
      and until_ns is not distinct from ${untilNs}`
  return rows.count > 0
}

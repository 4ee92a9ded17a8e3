// Usage of hours that are over, as events. What a commit counted is in usage_hours; here the difference to what was
// reported before becomes an event, in one transaction, so that the sum over all events is the sum over all rows.
//
// Rows can still come for an hour that was reported: after a step of the clock, or when a slow request crossed its end.
// They make a further part of the same hour, with an id of its own.

import type { Sql, Tx } from '#platform/postgres'
import type { UsageEvent } from '#platform/usage/outbox'

const hourMs = 3_600_000
/** Hours in one transaction; more wait for the next round. */
const hoursMax = 200

interface HourRow {
  replica: string
  tenant: string
  /** Unix ms. */
  hour: bigint
  rows: bigint
  bytes: bigint
  parts: number
}

/**
 * Reports the hours that ended at or before `endedByMs`; returns how many parts. Hours of a replica that is not seen any
 * more are reported by the others, a while later: what it stored is stored, and should it come back it adds a part.
 */
export async function reportHours(
  sql: Sql,
  o: {
    replica: string
    endedByMs: number
    ofOthersByMs?: number
    report: (tx: Tx, events: readonly UsageEvent[]) => Promise<void>
  },
): Promise<number> {
  return await sql.begin(async tx => {
    const hours = await tx<HourRow[]>`
      select replica::text as replica, tenant, (extract(epoch from hour) * 1000)::int8 as hour,
             rows - reported_rows as rows, bytes - reported_bytes as bytes, parts
      from purser_logs.usage_hours
      where rows > reported_rows and (
        (replica = ${o.replica}::uuid and hour <= to_timestamp(${o.endedByMs - hourMs}::float8 / 1000))
        or (replica <> ${o.replica}::uuid and hour <= to_timestamp(${(o.ofOthersByMs ?? 0) - hourMs}::float8 / 1000)
            and not exists (select from purser_logs.replicas r where r.replica = usage_hours.replica
                              and r.seen_at > clock_timestamp() - interval '10 minutes')))
      order by hour, tenant, replica limit ${hoursMax} for update`
    if (hours.length === 0) return 0
    await o.report(
      tx,
      hours.map(hour => eventOf(hour)),
    )
    for (const { replica, tenant, hour } of hours)
      await tx`
        update purser_logs.usage_hours set reported_rows = rows, reported_bytes = bytes, parts = parts + 1
        where replica = ${replica}::uuid and tenant = ${tenant} and hour = to_timestamp(${Number(hour)}::float8 / 1000)`
    return hours.length
  })
}

function eventOf({ replica, tenant, hour, rows, bytes, parts }: HourRow): UsageEvent {
  const time = new Date(Number(hour))
  const id = `${tenant}/${time.toISOString().slice(0, 13)}/${replica}`
  return {
    id: parts === 0 ? id : `${id}/${parts + 1}`,
    type: 'purser.logs.ingested.v1',
    subject: tenant,
    time,
    data: { rows: String(rows), bytes: String(bytes) },
  }
}

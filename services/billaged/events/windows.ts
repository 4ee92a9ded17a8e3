export const windowSizes = ['MINUTE', 'HOUR', 'DAY', 'MONTH'] as const
export type WindowSize = (typeof windowSizes)[number]

/** Most windows of one answer. */
export const windowsMax = 10_000

/** The edges of the calendar's windows between two instants, which are the first and the last. Null: too many. Days and
 *  months are those of the time zone, so a day may have 23 or 25 hours. */
export function windowEdges(fromMs: number, toMs: number, size: WindowSize | null, zone: string): bigint[] | null {
  const edges = [BigInt(fromMs) * 1_000_000n]
  if (size !== null) {
    let at = startOf(Temporal.Instant.fromEpochMilliseconds(fromMs).toZonedDateTimeISO(zone), size)
    for (at = next(at, size); at.epochMilliseconds < toMs; at = next(at, size)) {
      if (edges.length >= windowsMax) return null
      if (at.epochMilliseconds > fromMs) edges.push(at.epochNanoseconds)
    }
  }
  edges.push(BigInt(toMs) * 1_000_000n)
  return edges
}

function startOf(at: Temporal.ZonedDateTime, size: WindowSize): Temporal.ZonedDateTime {
  switch (size) {
    case 'MINUTE':
      return at.round({ smallestUnit: 'minute', roundingMode: 'floor' })
    case 'HOUR':
      return at.round({ smallestUnit: 'hour', roundingMode: 'floor' })
    case 'DAY':
      return at.startOfDay()
    case 'MONTH':
      return at.with({ day: 1 }).startOfDay()
    default:
      return size satisfies never
  }
}

function next(at: Temporal.ZonedDateTime, size: WindowSize): Temporal.ZonedDateTime {
  switch (size) {
    case 'MINUTE':
      return at.add({ minutes: 1 })
    case 'HOUR':
      return at.add({ hours: 1 })
    case 'DAY':
      return at.add({ days: 1 }).startOfDay()
    case 'MONTH':
      return at.add({ months: 1 }).startOfDay()
    default:
      return size satisfies never
  }
}

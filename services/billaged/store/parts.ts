import type { Queryable, Sql } from '#platform/postgres'
import { CorruptPart, decodePart } from '../samples/part.ts'
import type { Sample } from '../samples/sample.ts'
import type { RunningUsage } from './running.ts'

/** What reading parts needs: the pool, and whom to tell of a part that does not decode. It is left out of the answer;
 *  the rest is read. */
export interface PartReader {
  sql: Sql
  onCorruptPart(error: CorruptPart, part: DamagedPart): void
  /** Running periods that are asked for again and again. */
  running?: RunningUsage
  /** Only facts that had come in by then. What is kept by the hour knows no such time. */
  asOf?: Date
}

/** The condition of `asOf` on rows with a `received_at`. */
export function knownBy(sql: Queryable, asOf: Date | undefined) {
  return asOf === undefined ? sql`` : sql`and (received_at is null or received_at <= ${asOf})`
}

/** The same within one transaction, whose snapshot makes several questions one. */
export type SampleReader = Omit<PartReader, 'sql'> & { sql: Queryable }

export interface DamagedPart {
  seriesId: bigint
  hour: number
  body: Uint8Array
}

export interface PartRow {
  hour: number
  body: Buffer
}

export function decodeRow(
  reader: Pick<PartReader, 'onCorruptPart'>,
  seriesId: bigint,
  { hour, body }: PartRow,
): Sample[] {
  try {
    return decodePart(body)
  } catch (error) {
    if (!(error instanceof CorruptPart)) throw error
    reader.onCorruptPart(error, { seriesId, hour, body })
    return []
  }
}

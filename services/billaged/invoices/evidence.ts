import { createHash } from 'node:crypto'
import { type Sample, valueFields } from '../samples/sample.ts'
import { type Cell, emptyCell } from '../usage/cells.ts'
import { type CanonicalValue, canonicalJson } from './canonical.ts'

// What an amount rests on: for each VM and hour the digest of the readings in it and the usage that the fold made of
// them, one canonical line of JSON each. The lines are the leaves of a receipt's Merkle tree and what `explain` reads.

export interface HourEvidence {
  vmId: string
  /** Hours since 1970. */
  hour: number
  samples: number
  /** Hex SHA-256 of the hour's set of samples. */
  digest: string
  cell: Cell
}

/** Of one event type within one plan segment. */
export interface EventEvidence {
  type: string
  from: number
  to: number
  count: number
  digest: string
}

// Whatever the fold tells apart, by its own names: a new kind of time is in the evidence from the day it is measured.
const nothing = emptyCell()
const fields = Object.keys(nothing) as (keyof Cell)[]
const kinds = Object.keys(nothing.timeNs) as (keyof Cell['timeNs'])[]

export function hourLine({ vmId, hour, samples, digest, cell }: HourEvidence): string {
  const usage: Record<string, CanonicalValue> = {}
  for (const field of fields) {
    const known = kinds.filter(kind => cell[field][kind] !== 0n)
    if (known.length > 0) usage[field] = Object.fromEntries(known.map(kind => [kind, `${cell[field][kind]}`]))
  }
  return canonicalJson({ vmId, hour, samples, digest, usage })
}

export function eventLine(events: EventEvidence): string {
  const { type, from, to, count, digest } = events
  return canonicalJson({ eventType: type, from, to, count, digest })
}

export function parseHourLine(line: string): HourEvidence {
  const row: unknown = JSON.parse(line)
  if (!isHourRow(row)) throw new Error(`not a line of evidence: ${line.slice(0, 80)}`)
  const cell = emptyCell()
  for (const field of fields) for (const kind of kinds) cell[field][kind] = BigInt(row.usage[field]?.[kind] ?? '0')
  return { vmId: row.vmId, hour: row.hour, samples: row.samples, digest: row.digest, cell }
}

/** SHA-256 over the samples in order of time (and value): time and six values, 8 bytes big-endian each. No encoding of
 *  ours is in it, so anybody with the readings can do it again. */
export function sampleSetDigest(samples: readonly Sample[]): string {
  const hash = createHash('sha256')
  const bytes = Buffer.alloc(8 * 7)
  for (const sample of samples) {
    bytes.writeBigInt64BE(sample.atNs, 0)
    for (const [i, field] of valueFields.entries()) bytes.writeBigInt64BE(sample[field], 8 * (i + 1))
    hash.update(bytes)
  }
  return hash.digest('hex')
}

export function isNothing(cell: Cell): boolean {
  return fields.every(field => kinds.every(kind => cell[field][kind] === 0n))
}

interface HourRow {
  vmId: string
  hour: number
  samples: number
  digest: string
  usage: Record<string, Record<string, string> | undefined>
}

function isHourRow(row: unknown): row is HourRow {
  return typeof row === 'object' && row !== null && 'vmId' in row && 'hour' in row && 'usage' in row
}

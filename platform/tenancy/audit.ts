// The audit trail: every administrative act, one row, each chained to the one before by SHA-256. Pure; rows are
// written by store.ts.

import { createHash } from 'node:crypto'

export interface Actor {
  kind: 'key' | 'session' | 'token' | 'command' | 'system'
  /** Key name or prefix, person, service. Never a credential. */
  name: string
  address?: string
}

export interface AuditEntry {
  actor: Actor
  /** Verb and noun: `tenant.create`, `key.revoke`. */
  action: string
  /** What it was done to: `tenant acme`, `key 7 (1a2b3c4d)`. */
  object: string
  before?: unknown
  after?: unknown
}

export interface AuditRow {
  seq: bigint
  /** RFC 3339, milliseconds. */
  at: string
  body: string
  prevHash: Buffer
  hash: Buffer
}

export const firstHash = Buffer.alloc(32)

export function auditBody(entry: AuditEntry): string {
  return JSON.stringify({
    actor: entry.actor,
    action: entry.action,
    object: entry.object,
    before: masked(entry.before),
    after: masked(entry.after),
  })
}

export function chainHash(prevHash: Buffer, seq: bigint, at: string, body: string): Buffer {
  return createHash('sha256').update(prevHash).update(`${seq}\n${at}\n`).update(body).digest()
}

/** The first row, in order of seq, that was changed, removed or put in between; undefined when the chain holds. */
export function firstBrokenLink(rows: Iterable<AuditRow>): bigint | undefined {
  let prev: Buffer = firstHash
  let expected = 1n
  for (const row of rows) {
    if (
      row.seq !== expected ||
      !row.prevHash.equals(prev) ||
      !row.hash.equals(chainHash(prev, row.seq, row.at, row.body))
    )
      return expected
    prev = row.hash
    expected += 1n
  }
  return undefined
}

const depthMax = 8

/** Values under names that sound like a credential become `***`, at any depth. */
export function masked(value: unknown, depth = 0): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Date) return value.toISOString()
  if (typeof value !== 'object' || value === null) return value
  if (depth >= depthMax) return '…'
  if (Array.isArray(value)) return value.map(item => masked(item, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name,
      /key$|secret|token|password|authorization|credential/i.test(name) && inner !== null
        ? '***'
        : masked(inner, depth + 1),
    ]),
  )
}

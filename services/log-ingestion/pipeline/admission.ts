// Has this request been accepted before? Asked before a body is decoded, answered from memory whenever that can be.
//
//   marked (Idempotency-Key)   per tenant and key, for IDEMPOTENCY_TTL; also asked of the database, and decided for good by
//                              a unique row in the commit (store/idempotency.ts)
//   unmarked                   same key, address, client, route and body within DEDUPE_WINDOW, when every entry carries a
//                              time of its own: two `hello` by curl are two entries; with Redis, on all replicas
//
// A repeat that comes while the first is still on its way waits for it. What is remembered is in the journal too, and read
// back from there at start, so kill -9 makes nobody's resend a second entry.

import { createHash, hash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type { Journal, JournalPosition } from '#platform/journal'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { Refusal } from '../protocols/protocol.ts'
import { noDedupe, readRecord } from '../record.ts'
import type { Mark } from '../store/idempotency.ts'
import { type AcceptedPlace, createRemembered, type RememberedRequest } from './remembered.ts'
import type { SharedResends } from './shared-resends.ts'

export interface Arrival {
  tenant: string
  key: string
  /** The Idempotency-Key header. */
  mark: string | undefined
  address: string
  userAgent: string
  /** Path and query. */
  url: string
  /** Decoded. */
  body: Uint8Array
}

export interface Entrance {
  /** The request this one repeats. */
  first: FirstRequest | undefined
  /** What its journal record carries. Without a time in every entry an unmarked request is not recognised again. */
  marks(hasTimestamps: boolean): { idempotencyKey: string; dedupeHash: Uint8Array }
  accepted(place: AcceptedPlace): void
  /** Lets those in that waited for this one. Always called, at the end. */
  leave(): void
}

export interface FirstRequest extends RememberedRequest {
  /** In the journal of another replica, or of another life of this one: its commits are not followed here. */
  isElsewhere: boolean
}

export interface Admission {
  /** @throws Refusal: the mark is not one, or stands for another body */
  enter(arrival: Arrival): Promise<Entrance>
}

export interface AdmissionOptions {
  journal: Journal
  journalDir: string
  dedupeWindowMs: number
  idempotencyTtlMs: number
  clock: Clock
  log: Logger
  /** The owners of these marks in the database; undefined when it cannot be asked now. */
  findOwners: (marks: readonly Mark[]) => Promise<Map<string, RememberedRequest>> | undefined
  onEvicted: (kind: 'dedupe' | 'idempotency', count: number) => void
  /** Undefined: without Redis each replica knows its own. */
  shared?: SharedResends | undefined
}

export const dedupeMax = 1_000_000
/** Beyond it the database knows. */
export const marksMax = 200_000
const markBytesMax = 255
/** Of the newest segments, read at start for marks beside what the window needs. */
const recallBytes = 256 * 1024 * 1024
/** Longest a request waits to be told about its mark; then the commit decides. */
const askTimeoutMs = 1_000
const marksPerQuery = 500
const pieceBytes = 256 * 1024

export async function openAdmission(o: AdmissionOptions): Promise<Admission> {
  const { clock } = o
  const unmarked = createRemembered({
    keepMs: o.dedupeWindowMs,
    max: dedupeMax,
    hasBodies: false,
    onEvicted: count => o.onEvicted('dedupe', count),
  })
  const marked = createRemembered({
    keepMs: o.idempotencyTtlMs,
    max: marksMax,
    onEvicted: count => o.onEvicted('idempotency', count),
  })
  const inWork = new Map<string, Promise<void>>()
  const ask = batchedQuestions(o.findOwners)
  await recall(o, { marked, unmarked })

  const enterMarked = async (arrival: Arrival, mark: string): Promise<Entrance> => {
    const { tenant, key } = arrival
    const id = idOf(['mark', tenant, key, mark])
    const body = (await sha256(arrival.body)).subarray(0, 16)
    const turn = await takeTurn(id, () => marked.find(id, clock.monotonicMs()))
    let first = turn.known && { ...turn.known, isElsewhere: false }
    if (!first) {
      const owner = await ask({ tenant, key, idempotencyKey: mark }).catch(() => undefined)
      // Claimed with its first rows: those of a large request come in several commits.
      first = owner && { ...owner, isElsewhere: true }
    }
    if (first && !isSame(first.body, body)) {
      turn.leave()
      throw new Refusal({
        kind: 'conflict',
        status: 422,
        detail: `Idempotency-Key ${JSON.stringify(mark)} stands for another body; give each request a key of its own`,
      })
    }
    return {
      first,
      marks: () => ({ idempotencyKey: mark, dedupeHash: body }),
      accepted: place => marked.add(id, { ...place, body }, clock.monotonicMs()),
      leave: turn.leave,
    }
  }

  const enterUnmarked = async (arrival: Arrival): Promise<Entrance> => {
    if (o.dedupeWindowMs === 0) return stranger
    const { tenant, key, address, userAgent, url } = arrival
    const body = await sha256(arrival.body)
    const id = idOf(['resend', tenant, key, address, userAgent, url], body)
    const turn = await takeTurn(id, () => unmarked.find(id, clock.monotonicMs()))
    const told = turn.known ? undefined : await o.shared?.claim(id)
    let isClaimed = told === 'ours'
    let takesPart = false
    const leave = () => {
      if (isClaimed) o.shared?.giveUp(id)
      isClaimed = false
      turn.leave()
    }
    return {
      first: firstOf(turn.known, told === 'ours' ? undefined : told),
      marks(hasTimestamps) {
        takesPart = hasTimestamps
        // Others with the same body are entries of their own: they need not wait.
        if (!takesPart) leave()
        return { idempotencyKey: '', dedupeHash: takesPart ? id : noDedupe }
      },
      accepted(place) {
        if (!takesPart) return
        isClaimed = false
        unmarked.add(id, { ...place, body: noDedupe }, clock.monotonicMs())
        o.shared?.accepted(id, place)
      },
      leave,
    }
  }

  /** Waits for those with the same id that are in work, one after the other, until one of them was accepted. */
  const takeTurn = async (id: Uint8Array, find: () => RememberedRequest | undefined) => {
    const name = Buffer.from(id).toString('latin1')
    for (let other = inWork.get(name); other; other = inWork.get(name)) {
      const known = find()
      if (known) return { known, leave: () => {} }
      await other
    }
    const known = find()
    if (known) return { known, leave: () => {} }
    const { promise, resolve } = Promise.withResolvers<void>()
    inWork.set(name, promise)
    const leave = () => {
      if (inWork.get(name) === promise) inWork.delete(name)
      resolve()
    }
    return { known: undefined, leave }
  }

  return {
    async enter(arrival) {
      const { mark } = arrival
      if (mark === undefined) return await enterUnmarked(arrival)
      if (!/^[\x20-\x7e]+$/.test(mark) || mark.length > markBytesMax)
        throw new Refusal({
          kind: 'malformed',
          status: 400,
          detail: `Idempotency-Key must be 1 to ${markBytesMax} printable ASCII characters`,
        })
      return await enterMarked(arrival, mark)
    },
  }
}

function firstOf(known: RememberedRequest | undefined, told: AcceptedPlace | undefined): FirstRequest | undefined {
  if (known) return { ...known, isElsewhere: false }
  return told && { ...told, body: noDedupe, isElsewhere: true }
}

const stranger: Entrance = {
  first: undefined,
  marks: () => ({ idempotencyKey: '', dedupeHash: noDedupe }),
  accepted: () => {},
  leave: () => {},
}

/** Of a long body piece by piece: others have their turn in between. */
async function sha256(body: Uint8Array): Promise<Buffer> {
  if (body.length <= pieceBytes) return hash('sha256', body, 'buffer')
  const digest = createHash('sha256')
  for (let at = 0; at < body.length; at += pieceBytes) {
    digest.update(body.subarray(at, at + pieceBytes))
    await setImmediate()
  }
  return digest.digest()
}

function idOf(texts: readonly string[], body?: Uint8Array): Uint8Array {
  // Lengths first, so that no two lists of texts make the same bytes.
  const digest = createHash('sha256').update(texts.map(text => `${text.length}:${text}`).join(''))
  if (body) digest.update(body)
  return digest.digest().subarray(0, 16)
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/** Marks asked about while a query runs go together in the next one. */
function batchedQuestions(findOwners: AdmissionOptions['findOwners']) {
  let waiting: { mark: Mark; resolve: (owner: RememberedRequest | undefined) => void }[] = []
  let isAsking = false
  const run = async () => {
    isAsking = true
    while (waiting.length > 0) {
      const asked = waiting.slice(0, marksPerQuery)
      waiting = waiting.slice(marksPerQuery)
      let owners: Map<string, RememberedRequest> | undefined
      try {
        owners = await withTimeout(findOwners(asked.map(({ mark }) => mark)))
      } catch {
        // Not reachable now: the commit will tell.
      }
      for (const { mark, resolve } of asked) resolve(owners?.get(`${mark.tenant}\0${mark.key}\0${mark.idempotencyKey}`))
    }
    isAsking = false
  }
  return (mark: Mark): Promise<RememberedRequest | undefined> =>
    new Promise(resolve => {
      waiting.push({ mark, resolve })
      if (!isAsking) void run()
    })
}

async function withTimeout<T>(work: Promise<T> | undefined): Promise<T | undefined> {
  if (!work) return undefined
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => resolve(undefined), askTimeoutMs)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
    work.catch(() => {})
  }
}

async function recall(
  o: AdmissionOptions,
  memory: { marked: ReturnType<typeof createRemembered>; unmarked: ReturnType<typeof createRemembered> },
): Promise<void> {
  const { journal, clock } = o
  const wallMs = clock.now()
  const monotonicMs = clock.monotonicMs()
  let atMs = Number.NEGATIVE_INFINITY
  let position = await recallFrom(o.journalDir, wallMs - o.dedupeWindowMs)
  for (;;) {
    const { batches, next } = await journal.read(position, { bytesMax: 8 * 1024 * 1024 })
    if (batches.length === 0) return
    for (const { segment, from, to, payload } of batches) {
      const record = readRecord(payload)
      const { receivedUs, rows, idempotencyKey, dedupeHash, tenant, key, protocol } = record
      // The order of the journal is that of acceptance; clocks may have stepped in between.
      atMs = Math.max(atMs, monotonicMs - Math.max(0, wallMs - Number(receivedUs / 1_000n)))
      const place = { segment, from, to, rows, receivedUs }
      if (protocol === 'replay') continue
      if (idempotencyKey !== '')
        memory.marked.add(idOf(['mark', tenant, key, idempotencyKey]), { ...place, body: dedupeHash }, atMs)
      else if (dedupeHash.some(byte => byte !== 0)) memory.unmarked.add(dedupeHash, { ...place, body: noDedupe }, atMs)
    }
    position = next
  }
}

/** The newest segment that was begun before `sinceMs`, or an older one when there is little behind it. The time is in the
 *  names of the files. */
async function recallFrom(dir: string, sinceMs: number): Promise<JournalPosition | null> {
  const names = (await readdir(dir)).filter(name => name.endsWith('.journal')).sort()
  let bytes = 0
  for (const name of names.toReversed()) {
    bytes += (await stat(join(dir, name))).size
    const begunMs = Number.parseInt(name.slice(0, 8) + name.slice(9, 13), 16)
    if (begunMs <= sinceMs && bytes > recallBytes) return { segment: name.slice(0, -'.journal'.length), offset: 0 }
  }
  return null
}

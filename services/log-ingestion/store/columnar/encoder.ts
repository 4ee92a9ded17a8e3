// The thread that encodes, from the side of those who need it. It is started by the first job, and again after a crash.

import { Worker } from 'node:worker_threads'
import type { RowsToStore, TotalRows } from '../sink.ts'
import type { BlockSections } from './decode.ts'
import type { FreshBlock } from './fresh.ts'

export interface FreshJob {
  kind: 'fresh'
  id: number
  payloads: Uint8Array<ArrayBuffer>
  ends: number[]
  ids: BigInt64Array
  keeps: Uint8Array | undefined
}

export interface MergeJob {
  kind: 'merge'
  id: number
  tenant: string
  day: number
  blocks: { head: Uint8Array; messages: Uint8Array; metadata: Uint8Array }[]
  /** Per block: 0 for rows that are left out. */
  keeps: readonly Uint8Array[] | undefined
}

export type Job = FreshJob | MergeJob

export interface JobResult {
  id: number
  blocks: FreshBlock[]
  totals: TotalRows[]
  /** Of a fresh job, back for the next one. */
  payloads?: Uint8Array<ArrayBuffer>
}

export interface Encoder {
  encode(rows: RowsToStore): Promise<{ blocks: FreshBlock[]; totals: TotalRows[] }>
  /** Blocks of one tenant and day as new ones; `keeps` per block, 0 for rows that are left out. */
  merge(
    tenant: string,
    day: number,
    blocks: readonly Required<BlockSections>[],
    keeps?: readonly Uint8Array[],
  ): Promise<FreshBlock[]>
  close(): Promise<void>
}

/** A thread without work for this long gives its memory back. */
const idleMsMax = 15_000
/** Two batches are in work at once. */
export const sparesMax = 2
const spareBytesMin = 64 * 1024
/** Batches differ by a little, and each size would be a spare of its own. */
const spareStepBytes = 512 * 1024
/** Ten thousand rows of ordinary size; what holds more is made for one job alone. */
export const spareBytesMax = 5 * 1024 * 1024
/** A thread that grows beyond this dies, and its job fails, instead of the process. */
const heapMiBMax = 128

export function openEncoder(): Encoder {
  let worker: Worker | undefined
  let jobs = 0
  let idle: NodeJS.Timeout | undefined
  /** Handed over with a job, and back with its answer: as garbage they would make the heap be marked again and again. */
  let spares: Uint8Array<ArrayBuffer>[] = []
  const waiting = new Map<number, { resolve: (result: JobResult) => void; reject: (error: Error) => void }>()

  const failAll = (error: Error) => {
    worker = undefined
    for (const { reject } of waiting.values()) reject(error)
    waiting.clear()
  }

  const takePayloads = (bytes: number): Uint8Array<ArrayBuffer> => {
    if (bytes < spareBytesMin || bytes > spareBytesMax) return new Uint8Array(bytes)
    const at = spares.findIndex(spare => spare.length >= bytes)
    return spares.splice(at, at < 0 ? 0 : 1)[0] ?? new Uint8Array(Math.ceil(bytes / spareStepBytes) * spareStepBytes)
  }

  const keepSpare = (payloads: Uint8Array<ArrayBuffer>) => {
    if (payloads.length < spareBytesMin || payloads.length > spareBytesMax) return
    spares.push(payloads)
    // The larger ones serve more.
    spares.sort((a, b) => a.length - b.length).splice(0, spares.length - sparesMax)
  }

  const rest = () => {
    const resting = worker
    worker = undefined
    spares = []
    void resting?.terminate()
  }

  const start = (): Worker => {
    const started = new Worker(new URL('./worker.ts', import.meta.url), {
      name: 'log-ingestion encoder',
      resourceLimits: { maxOldGenerationSizeMb: heapMiBMax, maxYoungGenerationSizeMb: 6 },
    })
    started.on('message', (answer: JobResult | { id: number; error: string }) => {
      const job = waiting.get(answer.id)
      waiting.delete(answer.id)
      if ('payloads' in answer) keepSpare(answer.payloads)
      if (waiting.size === 0) {
        started.unref()
        idle = setTimeout(rest, idleMsMax)
        idle.unref()
      }
      if ('error' in answer) job?.reject(new Error(`encoding failed: ${answer.error}`))
      else job?.resolve({ ...answer, blocks: answer.blocks.map(withBuffers) })
    })
    started.on('error', error => failAll(error instanceof Error ? error : new Error(String(error))))
    started.on('exit', () => {
      if (worker === started) failAll(new Error('the encoding thread ended'))
    })
    started.unref()
    return started
  }

  const ask = (job: Job, transfer: ArrayBuffer[]): Promise<JobResult> => {
    clearTimeout(idle)
    worker ??= start()
    const { promise, resolve, reject } = Promise.withResolvers<JobResult>()
    waiting.set(job.id, { resolve, reject })
    // A job in work keeps the process alive, an idle thread does not.
    worker.ref()
    worker.postMessage(job, transfer)
    return promise
  }

  return {
    encode({ records, ids, keeps }) {
      const ends: number[] = []
      let end = 0
      for (const { record } of records) {
        end += record.payload.length
        ends.push(end)
      }
      // One copy: what the journal read is shared with others, and a transferred buffer is gone here.
      const payloads = takePayloads(end)
      let at = 0
      for (const { record } of records) {
        payloads.set(record.payload, at)
        at += record.payload.length
      }
      const numbers = ids.slice()
      const kept = keeps && Uint8Array.from({ length: ids.length }, (_, index) => (keeps(index) ? 1 : 0))
      return ask({ kind: 'fresh', id: ++jobs, payloads, ends, ids: numbers, keeps: kept }, [
        payloads.buffer,
        numbers.buffer,
      ])
    },
    async merge(tenant, day, blocks, keeps) {
      const sections = blocks.map(({ head, messages, metadata }) => ({
        head: new Uint8Array(head ?? []),
        messages: new Uint8Array(messages ?? []),
        metadata: new Uint8Array(metadata ?? []),
      }))
      const transfer = sections.flatMap(({ head, messages, metadata }) => [
        head.buffer,
        messages.buffer,
        metadata.buffer,
      ])
      return (await ask({ kind: 'merge', id: ++jobs, tenant, day, blocks: sections, keeps }, transfer)).blocks
    },
    async close() {
      clearTimeout(idle)
      const closing = worker
      worker = undefined
      failAll(new Error('the service is stopping'))
      await closing?.terminate()
    },
  }
}

/** Messages carry plain arrays of bytes. */
function withBuffers(block: FreshBlock): FreshBlock {
  const buffer = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  return {
    ...block,
    head: buffer(block.head),
    messages: buffer(block.messages),
    metadata: buffer(block.metadata),
    bloom: block.bloom && buffer(block.bloom),
    sha256: buffer(block.sha256),
  }
}

// Encoding on a thread of its own: 10 000 rows take tens of milliseconds, which acknowledgements must not wait for.

import { Buffer } from 'node:buffer'
import { parentPort } from 'node:worker_threads'
import type { Job, JobResult } from './encoder.ts'
import { encodeFresh } from './fresh.ts'
import { mergeBlocks } from './merge.ts'

const port = parentPort
if (!port) throw new Error('BUG: worker.ts is run by encoder.ts')

port.on('message', (job: Job) => {
  try {
    const result = run(job)
    const transfer = buffersOf(result)
    if (result.payloads) transfer.push(result.payloads.buffer)
    port.postMessage(result, transfer)
  } catch (error) {
    port.postMessage({ id: job.id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
  collectGarbage()
})

/** Columns and what they pack to lie outside this thread's heap, which is small and hardly ever marked for their sake. To
 *  collect them takes longer than to encode some thousand rows, so it is done when the process nears the memory promised. */
const garbageBytesMax = 12 * 1024 * 1024
const processBytesMax = 200 * 1024 * 1024

/** Nothing without --expose-gc, which the launcher gives. */
function collectGarbage() {
  const { arrayBuffers, rss } = process.memoryUsage()
  if (rss > processBytesMax && arrayBuffers > garbageBytesMax) globalThis.gc?.()
}

function run(job: Job): JobResult {
  if (job.kind === 'fresh') {
    const { id, payloads } = job
    return { id, ...encodeFresh({ ...job, payloads: asBuffer(payloads) }), payloads }
  }
  const blocks = mergeBlocks(
    job.blocks.map(({ head, messages, metadata }) => ({
      head: asBuffer(head),
      messages: asBuffer(messages),
      metadata: asBuffer(metadata),
    })),
    job.keeps,
  )
  return { id: job.id, blocks: blocks.map(block => ({ ...block, tenant: job.tenant, day: job.day })), totals: [] }
}

/** Messages carry plain arrays of bytes. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** What is handed over instead of copied. Small buffers share a pool and are copied. */
function buffersOf(result: JobResult): ArrayBuffer[] {
  const found = new Set<ArrayBuffer>()
  for (const { head, messages, metadata, bloom } of result.blocks)
    for (const bytes of [head, messages, metadata, bloom])
      if (bytes && bytes.buffer instanceof ArrayBuffer && bytes.length === bytes.buffer.byteLength)
        found.add(bytes.buffer)
  return [...found]
}

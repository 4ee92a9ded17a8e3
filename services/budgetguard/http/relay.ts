// Relays an event stream to the caller, byte for byte, and meters it on the way. Whole events only: a reader cannot
// act on less, and the terminal one must wait until the call is settled.

import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { ChatMeter } from '../dialects/openai/meter.ts'
import type { ProviderAnswer } from '../providers/provider.ts'
import { UpstreamFailure } from '../providers/provider.ts'
import { eventData, SseSplitter } from '../sse.ts'

export interface StreamEnd {
  meter: ChatMeter
  /** `[DONE]` and whatever came with it; written by `finish` after the settlement. */
  terminal: Buffer[]
  failure: UpstreamFailure | 'client-gone' | 'oversized' | null
}

/**
 * Resolves when the stream has ended, one way or another; the terminal event is not written yet. `isGone` says that
 * nobody listens any more: the stream is then read to its end without writing, unless the provider was aborted.
 */
export async function relayStream(o: {
  answer: ProviderAnswer
  response: ServerResponse
  wantsUsage: boolean
  isGone: () => boolean
}): Promise<StreamEnd> {
  const meter = new ChatMeter(o.wantsUsage)
  const splitter = new SseSplitter()
  const terminal: Buffer[] = []
  const end = (failure: StreamEnd['failure']): StreamEnd => ({ meter, terminal, failure })
  const chunks = o.answer.body[Symbol.asyncIterator]()
  try {
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) {
      for (const event of splitter.push(next.value)) {
        const kind = terminal.length > 0 ? 'terminal' : meter.see(eventData(event))
        if (kind === 'terminal') terminal.push(event)
        else if (kind === 'relay') await write(o.response, event, o.isGone)
      }
      if (!meter.isDone) continue
      void readOut(chunks)
      return end(null)
    }
    const rest = splitter.rest()
    if (rest.length > 0) {
      // An event without its blank line: pass it on, and count it.
      const kind = meter.see(eventData(rest))
      if (kind === 'terminal') terminal.push(rest)
      else if (kind === 'relay') await write(o.response, rest, o.isGone)
    }
    return end(null)
  } catch (error) {
    if (error instanceof UpstreamFailure) return end(error.kind === 'aborted' ? 'client-gone' : error)
    if (!(error instanceof RangeError)) throw error
    await chunks.return?.()
    return end('oversized')
  }
}

/** To the end of the body, which is near, so that the provider's connection can be used again. */
async function readOut(chunks: AsyncIterator<Buffer>): Promise<void> {
  try {
    for (let bytes = 0; bytes < readOutBytesMax; ) {
      const next = await chunks.next()
      if (next.done) return
      bytes += next.value.length
    }
    await chunks.return?.()
  } catch {
    // The call is settled; how its connection ends is nobody's business.
  }
}

const readOutBytesMax = 64 * 1024

/** Waits while the caller is slower than the provider, so that nothing piles up here. */
async function write(response: ServerResponse, bytes: Buffer, isGone: () => boolean): Promise<void> {
  if (isGone() || response.write(bytes)) return
  const waiting = new AbortController()
  try {
    await Promise.race([
      once(response, 'drain', { signal: waiting.signal }),
      once(response, 'close', { signal: waiting.signal }),
    ])
  } catch {
    // A broken socket also closes; isGone knows.
  } finally {
    waiting.abort()
  }
}

// GET /api/v1/live: each tick as a server-sent event, for charts that move.
//
// A stream holds no queue of its own. What a slow reader has not taken sits in its socket's buffer, and past 256 KiB
// the reader is cut off; it reconnects and goes on from the tick that is then newest.

import type { ServerResponse } from 'node:http'
import type { LiveTick } from '../api.ts'
import { parseSelector, type Selector } from '../query/parse.ts'
import { matchesSeries, metricOf } from '../query/run.ts'
import type { Committed, Sample } from '../store/frames.ts'
import { type Exchange, HttpError } from './reply.ts'

const streamsMax = 16
const bufferedBytesMax = 256 * 1024
const keepAliveMs = 15_000

export interface LiveContext {
  onCommit(listener: (committed: Committed) => void): () => void
  newest(): { stampMs: number; samples: readonly Sample[] } | undefined
}

export function openLive(context: LiveContext) {
  const streams = new Set<ServerResponse>()
  return {
    serve({ req, res, params }: Exchange): void {
      const selectors = params.getAll('match[]').map(parseSelector)
      if (streams.size >= streamsMax)
        throw new HttpError(503, 'too-many-streams', `${streamsMax} streams are open already`, { 'Retry-After': '5' })
      res.writeHead(200, {
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-store',
        'X-Accel-Buffering': 'no',
        Connection: 'keep-alive',
      })
      streams.add(res)
      req.socket.setNoDelay(true)
      const send = (text: string) => {
        if (res.writableLength > bufferedBytesMax) res.destroy()
        else res.write(text)
      }
      const sendTick = ({ stampMs, samples }: { stampMs: number; samples: readonly Sample[] }) => {
        const tick = liveTick(stampMs, samples, selectors)
        if (tick.samples.length > 0) send(`data: ${JSON.stringify(tick)}\n\n`)
      }
      const stop = context.onCommit(sendTick)
      const timer = setInterval(() => send(': keep-alive\n\n'), keepAliveMs)
      res.once('close', () => {
        stop()
        clearInterval(timer)
        streams.delete(res)
      })
      res.write('retry: 2000\n\n')
      const newest = context.newest()
      if (newest) sendTick(newest)
    },
    close(): void {
      for (const res of streams) res.end()
    },
  }
}

function liveTick(stampMs: number, samples: readonly Sample[], selectors: readonly Selector[]): LiveTick {
  const wanted = samples.filter(
    ({ series }) => selectors.length === 0 || selectors.some(({ matchers }) => matchesSeries(matchers, series)),
  )
  return {
    t: stampMs,
    samples: wanted.map(({ series, value }) => ({ metric: metricOf(series.name, series.labels), value })),
  }
}

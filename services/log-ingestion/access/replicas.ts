// How many replicas share one Redis: each says every two seconds that it is there, and counts who did lately.

import { readFile, writeFile } from 'node:fs/promises'
import type { SharedRedis } from '../redis.ts'

export interface Replicas {
  /** As last heard, in this life or the one before; at least 1. */
  readonly count: number
  close(): Promise<void>
}

const everyMs = 2_000
/** Who was silent for so long does not count. */
const forgottenAfterMs = 7_000

const script = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
`

/** `path` is where the count survives a restart, which may happen while Redis is away. */
export async function countReplicas(o: {
  redis: Pick<SharedRedis, 'client' | 'isUp'>
  replica: string
  path: string
}): Promise<Replicas> {
  const { client } = o.redis
  const remembered = Number(await readFile(o.path, 'utf8').catch(() => ''))
  let count = Number.isInteger(remembered) && remembered >= 1 && remembered <= 100_000 ? remembered : 1
  let isSaying = false
  const say = async () => {
    if (isSaying || !o.redis.isUp) return
    isSaying = true
    try {
      const heard = Number(await client.eval(script, 1, 'replicas', o.replica, forgottenAfterMs))
      if (!(heard >= 1) || heard === count) return
      count = heard
      // Losing it costs a guess after the next start.
      await writeFile(o.path, String(heard), { mode: 0o600 })
    } catch {
      // Away: what was last heard holds.
    } finally {
      isSaying = false
    }
  }
  const timer = setInterval(() => void say(), everyMs)
  timer.unref()
  client.on('ready', say)
  void say()
  return {
    get count() {
      return count
    },
    async close() {
      clearInterval(timer)
      client.off('ready', say)
      // The others share what is left at once.
      if (o.redis.isUp) await client.zrem('replicas', o.replica).catch(() => {})
    },
  }
}

// Debian's Redis on a port of its own, that can die, fall silent and come back.

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Redis } from 'ioredis'
import { pollUntil } from '../../../test/kit/poll.ts'
import { unusedPort } from '../../../test/kit/ports.ts'

const command = '/usr/bin/redis-server'

export const whyNoRedis = existsSync(command) ? false : 'redis-server is not installed: apt-get install redis-server'

export interface RedisServer {
  /** With a minute for every answer: the service gives half a second, which a loaded machine may need. */
  url: string
  /** With the service's own patience. */
  ownUrl: string
  /** Speaks to it past the service. */
  client: Redis
  /** kill -9: nothing it held is left. */
  kill(): Promise<void>
  /** Connections stay and nothing is answered. */
  pause(): void
  resume(): void
  start(): Promise<void>
}

export interface ForgetfulRedis {
  url: string
  /** Clients that were told something that Redis never heard. */
  readonly forgotten: number
}

/** Between a client and Redis: what the client says that matches is swallowed, and so is all that it says afterwards. */
export async function forgetfulRedis(
  t: TestContext,
  redis: RedisServer,
  what: (said: string) => boolean,
): Promise<ForgetfulRedis> {
  let forgotten = 0
  const server = createServer(outer => {
    const inner = connect(Number(new URL(redis.ownUrl).port), '127.0.0.1')
    let isMuted = false
    outer.on('data', chunk => {
      if (!isMuted && what(chunk.toString('latin1'))) {
        isMuted = true
        forgotten++
      }
      if (!isMuted) inner.write(chunk)
    })
    inner.on('data', chunk => outer.write(chunk))
    for (const [one, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
    t.after(() => {
      inner.destroy()
      outer.destroy()
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    url: `redis://127.0.0.1:${port}?commandTimeout=60000&socketTimeout=60000`,
    get forgotten() {
      return forgotten
    },
  }
}

export async function redisServer(t: TestContext): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-redis-'))
  const port = await unusedPort()
  const ownUrl = `redis://127.0.0.1:${port}`
  const client = new Redis(ownUrl, { lazyConnect: true, retryStrategy: () => 50 })
  client.on('error', () => {})
  let child: ChildProcess | undefined
  const kill = async () => {
    const running = child
    child = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const gone = new Promise(resolve => running.once('close', resolve))
    running.kill('SIGKILL')
    await gone
  }
  const start = async () => {
    child = spawn(command, ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', dir], {
      stdio: 'ignore',
    })
    await pollUntil(() => client.ping(), { what: 'Redis to answer', everyMs: 20 })
  }
  t.after(async () => {
    client.disconnect()
    await kill()
    await rm(dir, { recursive: true, force: true })
  })
  await start()
  return {
    url: `${ownUrl}?commandTimeout=60000&socketTimeout=60000`,
    ownUrl,
    client,
    kill,
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    start,
  }
}

// What is left after the worst: the supervisor killed -9 under load, and a Ctrl-C.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { pollUntil } from '../kit/poll.ts'
import { healthOf, startPurser } from '../kit/purser.ts'

const hasProc = process.platform === 'linux'

test('after a kill -9 of the supervisor under load every acknowledged line is there once, no process is left, and a restart is well', {
  skip: !hasProc && 'needs /proc',
}, async t => {
  const purser = await startPurser(t)
  const key = purser.writeKey()
  const acknowledged: string[] = []
  let isSending = true
  const sender = async (lane: number) => {
    for (let n = 0; isSending; n++) {
      const messages = Array.from({ length: 20 }, (_, i) => `crash-${lane}-${n}-${i}`)
      const logs = messages.map(message => ({
        timestamp: new Date().toISOString(),
        service: 'crash',
        level: 'INFO',
        message,
      }))
      const response = await fetch(`${purser.url('log-ingestion')}/api/v1/logs/batch`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-api-key': key },
        body: JSON.stringify({ logs }),
        signal: AbortSignal.timeout(5_000),
      }).catch(() => undefined)
      if (response?.status === 202) acknowledged.push(...messages)
      else if (response?.status === 429) await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
  const senders = [sender(1), sender(2)]
  await pollUntil(() => acknowledged.length > 2_000, { what: 'load' })
  const family = descendants(purser.process.pid ?? 0)
  assert.ok(family.length >= 6, `five services and PostgreSQL, found ${family.length}`)
  await purser.kill9()
  isSending = false
  await Promise.all(senders)
  await pollUntil(() => family.every(pid => !isAlive(pid)), {
    what: 'every process of the killed family to end',
  })

  await purser.restart()
  await pollUntil(async () => Object.values(await healthOf(purser.dataDir)).every(status => status === 'ok'), {
    what: 'health after the restart',
  })
  const secret = await loadSecret({ dataDir: purser.dataDir })
  const stored = await pollUntil(
    async () => {
      const found = await searchAll(purser.url('log-ingestion'), secret)
      return found.length >= acknowledged.length && found
    },
    { what: 'the acknowledged lines' },
  )
  const once = new Set(stored)
  assert.equal(stored.length, once.size, 'a line is stored twice')
  assert.deepEqual(
    acknowledged.filter(message => !once.has(message)),
    [],
  )
})

test('Ctrl-C ends with 0 and leaves no process', { skip: !hasProc && 'needs /proc' }, async t => {
  const purser = await startPurser(t, { only: ['billaged', 'metrics-collector'] })
  const family = descendants(purser.process.pid ?? 0)
  assert.ok(family.length >= 3)
  assert.equal(await purser.stop(), 0)
  assert.deepEqual(family.filter(isAlive), [])
})

test('a second supervisor on the same folder, a taken port and a wrong setting are refused in one sentence each', async t => {
  const purser = await startPurser(t, { only: ['billaged'] })
  const { spawnSync } = await import('node:child_process')
  const { fileURLToPath } = await import('node:url')
  const main = fileURLToPath(new URL('../../purser/main.ts', import.meta.url))
  const offset = Number(new URL(purser.url('billaged')).port) - 8081
  const up = (env: Record<string, string>) => {
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', main, 'up', '--only', 'billaged'],
      {
        env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env },
        encoding: 'utf8',
        timeout: 120_000,
      },
    )
    return `${status} ${stderr}`
  }
  assert.match(
    up({ PURSER_DATA_DIR: purser.dataDir, PURSER_PORT_OFFSET: String(offset) }),
    new RegExp(`^1 Purser is already running \\(pid ${purser.process.pid}\\)`),
  )
  assert.match(
    up({ PURSER_DATA_DIR: `${purser.dataDir}/other`, PURSER_PORT_OFFSET: String(offset) }),
    /^1 .*port \d+ .*in use.*BILLAGED_PORT or PURSER_PORT_OFFSET/s,
  )
  assert.match(
    up({ PURSER_DATA_DIR: `${purser.dataDir}/other`, PURSER_PORT_OFFSET: '1', BILLAGED_MAX_VCPU: '4' }),
    /^78 .*BILLAGED_MAX_VCPU is not a setting of billaged; did you mean BILLAGED_MAX_VCPUS\?/s,
  )
})

async function searchAll(url: string, secret: Buffer): Promise<string[]> {
  const messages: string[] = []
  for (let cursor = ''; ; ) {
    const token = mintToken(secret, {
      audience: 'log-ingestion',
      role: 'operator',
      tenant: 'public',
      subject: 'test',
      clock: systemClock,
    })
    const query = new URLSearchParams({
      q: 'service:crash',
      from: '-1h',
      limit: '1000',
      ...(cursor === '' ? {} : { cursor }),
    })
    const response = await fetch(`${url}/api/v1/logs/search?${query}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const page = (await response.json()) as { logs: { message: string }[]; cursor: string | null }
    assert.equal(response.status, 200, JSON.stringify(page))
    messages.push(...page.logs.map(log => log.message))
    if (!page.cursor) return messages
    cursor = page.cursor
  }
}

/** Every living process below `pid`, children of children included. */
function descendants(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = parentOf(Number(name))
    if (parent !== undefined) parents.set(Number(name), parent)
  }
  const found: number[] = []
  for (let level = [pid]; level.length > 0; ) {
    level = [...parents].filter(([, parent]) => level.includes(parent)).map(([child]) => child)
    found.push(...level)
  }
  return found
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' ? undefined : Number(parent)
  } catch {
    return undefined
  }
}

function isAlive(pid: number): boolean {
  return parentOf(pid) !== undefined
}

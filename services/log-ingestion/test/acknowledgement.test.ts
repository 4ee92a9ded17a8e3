// What is true when a sender hears that its entries were taken, and what it hears when the disk does not take them.
//
// The disk is the real one. What the system calls for it answer is changed where a test needs a slow or a broken one: the
// code that calls them does not know.

import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import fs from 'node:fs'
import fsPromises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { describe, type TestContext, test } from 'node:test'
import { smallDisk } from '../../../test/kit/full-disk.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { encodeFields } from '../wire/protobuf.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

type Done = (error: NodeJS.ErrnoException | null) => void

/** Lets each fdatasync of this process through, or not yet, or with an error. Made before the service, it lets go first. */
function stubbornDisk(t: TestContext) {
  const real = fs.fdatasync
  const held: (() => void)[] = []
  const disk = { isHolding: false, isBroken: false, held, syncs: [] as { inode: number; worked: boolean }[], release }
  function release() {
    disk.isHolding = false
    for (const go of held.splice(0)) go()
  }
  t.mock.method(fs, 'fdatasync', (fd: number, done: Done) => {
    const { ino } = fs.fstatSync(fd)
    const go = () => {
      disk.syncs.push({ inode: ino, worked: !disk.isBroken })
      if (disk.isBroken) setImmediate(() => done(systemError('EIO', 'fdatasync')))
      else real(fd, done)
    }
    if (disk.isHolding) held.push(go)
    else go()
  })
  t.after(release)
  return disk
}

function systemError(code: string, syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: a test says so, ${syscall}`), { code, syscall })
}

const json = { 'content-type': 'application/json' }
const record = { timeUnixNano: '0', body: { stringValue: 'hello' } }
const otlp = JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: [record] }] }] })
const nested = encodeFields([[5, encodeFields([[1, 'hello']])]])
/** What an RPC carries is opaque to it, and bytes are base64 in its JSON. */
const rpc = JSON.stringify({
  resourceLogs: [Buffer.from(encodeFields([[2, encodeFields([[2, nested]])]])).toString('base64')],
})
const loki = JSON.stringify({ streams: [{ stream: { app: 'shop' }, values: [['0', 'hello']] }] })

/** Every way in that answers. */
const waysIn: [path: string, body: string, headers: Record<string, string>][] = [
  ['/api/v1/logs', JSON.stringify({ log: entry() }), {}],
  ['/api/v1/logs/batch', batch(entry(), entry({ message: 'two' })), {}],
  ['/api/v1/logs/batch', batch(entry({ message: 'marked' })), { 'idempotency-key': 'k' }],
  ['/api/v1/logs/ndjson', 'hello', {}],
  ['/insert/jsonline', '{"msg":"hello"}', {}],
  ['/loki/api/v1/push', loki, json],
  ['/_bulk', '{"create":{"_index":"shop"}}\n{"message":"hello"}\n', {}],
  ['/shop/_doc', '{"message":"hello"}', {}],
  ['/v1/logs', otlp, json],
  ['/opentelemetry.proto.collector.logs.v1.LogsService/Export', rpc, json],
  ['/api/v2/logs', '[{"message":"hello"}]', {}],
]

describe('G1: success is told after the fdatasync that covers the entries, whatever the protocol', () => {
  test('while the disk is at it nobody hears anything; what arrived meanwhile shares the next sync', async t => {
    const disk = stubbornDisk(t)
    const s = await startService(t)
    await s.settled()
    disk.isHolding = true
    let arrived = 0
    const count = () => void arrived++
    subscribe('http.server.request.start', count)
    t.after(() => unsubscribe('http.server.request.start', count))
    const answered: string[] = []
    const send = async ([path, body, headers]: (typeof waysIn)[number]) => {
      const response = await s.post(path, body, headers)
      const text = await response.text()
      answered.push(`${path}: ${response.status} ${text}`)
      return { path, response, text }
    }
    const [first, ...others] = waysIn
    assert.ok(first)
    const sent = [send(first)]
    await pollUntil(() => disk.held.length === 1, { what: 'the first group to reach the disk', everyMs: 2 })
    sent.push(...others.map(send))
    // Twice more of each: the next group is a group of many.
    for (let i = 0; i < 2; i++) sent.push(...others.filter(([, , headers]) => !headers['idempotency-key']).map(send))
    await pollUntil(() => arrived >= sent.length, { what: 'all requests to arrive', everyMs: 2 })
    // Whoever would answer early has had the time to.
    for (let i = 0; i < 20; i++) await fetch(`${s.url}/health/live`)
    assert.deepEqual(answered, [])
    assert.equal(disk.held.length, 1)
    disk.release()
    for (const { path, response, text } of await Promise.all(sent)) {
      assert.ok(response.ok, `${path}: ${response.status} ${text}`)
      assert.equal(response.headers.get('x-ack'), 'disk', path)
      assert.match(response.headers.get('x-receipt') ?? '', /^rcp_[\w-]{76}$/, path)
    }
    // No timer, no group of one each: the first, those that waited, perhaps one that was still being decoded.
    assert.ok(disk.syncs.length <= 3, `${disk.syncs.length} syncs for ${sent.length} requests`)
  })

  test('without a success nothing is claimed: the headers come with success only', async t => {
    const s = await startService(t)
    const refused = await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: '' }) }))
    assert.deepEqual(
      [refused.status, refused.headers.get('x-ack'), refused.headers.get('x-receipt')],
      [400, null, null],
    )
  })
})

describe('G5: what the disk does not take is refused whole, by name, and intake goes on by itself', () => {
  const post = (s: TestService, name: string) =>
    s.post('/api/v1/logs/batch', batch(entry({ message: name }), entry({ message: `${name} too` })))
  const messages = async (s: TestService) =>
    (await s.sql<{ message: string }[]>`select message from logs order by id`).map(({ message }) => message)

  async function assertRefused(response: Response, reason: string) {
    assert.deepEqual(
      [response.status, await response.json(), response.headers.get('retry-after')],
      [429, { error: 'Service overloaded', reason }, '30'],
    )
    assert.equal(response.headers.get('x-receipt'), null)
  }

  async function assertEven(s: TestService) {
    await s.settled()
    const ledger = await (await s.get('/api/v1/ledger?present=true', { 'x-api-key': adminKey })).json()
    assert.equal((ledger as { difference: string }).difference, '0')
    const metrics = await (await fetch(`${s.url}/metrics`)).text()
    assert.equal(/^log_ingestion_ledger_imbalance_rows (\S+)/m.exec(metrics)?.[1], '0')
  }

  test('EIO at fdatasync: the whole group is refused, the segment is never synced again, the next one takes over', async t => {
    const disk = stubbornDisk(t)
    const s = await startService(t)
    assert.equal((await post(s, 'before')).status, 202)
    disk.isHolding = true
    disk.isBroken = true
    const group = ['a', 'b', 'c', 'd'].map(name => post(s, name))
    await pollUntil(() => disk.held.length === 1, { what: 'a group to reach the disk', everyMs: 2 })
    disk.release()
    for (const answer of group) await assertRefused(await answer, 'DISK_ERROR')
    await assertRefused(await post(s, 'still broken'), 'DISK_ERROR')
    disk.isBroken = false
    assert.equal((await post(s, 'after')).status, 202)
    const broken = new Set(disk.syncs.filter(({ worked }) => !worked).map(({ inode }) => inode))
    for (const inode of broken) {
      const ofSegment = disk.syncs.filter(sync => sync.inode === inode)
      assert.equal(
        ofSegment.findIndex(({ worked }) => !worked),
        ofSegment.length - 1,
        'nothing after the failure',
      )
    }
    await assertEven(s)
    assert.deepEqual(await messages(s), ['before', 'before too', 'after', 'after too'])
    // Nor does a later life find anything of it.
    await s.restart()
    await assertEven(s)
    assert.equal((await messages(s)).length, 4)
  })

  test('ENOSPC at write: refused as DISK_FULL, and nothing of a half-written group is kept', async t => {
    const s = await startService(t)
    assert.equal((await post(s, 'before')).status, 202)
    const { writev } = fs
    let isFull = true
    t.mock.method(fs, 'writev', (fd: number, buffers: Buffer[], at: number, done: (e: unknown, n: number) => void) => {
      if (!isFull) return writev(fd, buffers, at, done)
      // As the system does: the first part goes in, the rest is refused.
      const [head = Buffer.alloc(0)] = buffers
      if (head.length > 8) return writev(fd, [head.subarray(0, 8)], at, done)
      return done(systemError('ENOSPC', 'write'), 0)
    })
    for (const name of ['x', 'y']) await assertRefused(await post(s, name), 'DISK_FULL')
    isFull = false
    assert.equal((await post(s, 'after')).status, 202)
    await assertEven(s)
    assert.deepEqual(await messages(s), ['before', 'before too', 'after', 'after too'])
  })

  test('a file system that is really full: the same, and what is there can still be stored', async t => {
    const disk = await smallDisk(t, { bytes: 24 * 1024 * 1024 })
    if (!disk) return
    const s = await startService(t, { env: { LOG_INGESTION_DATA_DIR: disk.dir } })
    assert.equal((await post(s, 'before')).status, 202)
    await disk.fill()
    const refused = await pollUntil(
      async () => {
        const response = await post(s, 'full')
        return response.status === 429 && response
      },
      { what: 'a refusal', everyMs: 1 },
    )
    await assertRefused(refused, 'DISK_FULL')
    await s.settled()
    await disk.free()
    await pollUntil(async () => (await post(s, 'after')).status === 202, { what: 'intake to work again' })
    await assertEven(s)
  })

  test('the journal leaves 5 % of the device to others, 1 GiB at most', async t => {
    const s = await startService(t)
    const gib = 1024 ** 3
    const device = { totalBytes: 0, freeBytes: 0 }
    t.mock.method(fsPromises, 'statfs', async () => ({
      bsize: 4_096,
      blocks: device.totalBytes / 4_096,
      bavail: Math.floor(device.freeBytes / 4_096),
    }))
    syncBuiltinESMExports()
    t.after(() => {
      t.mock.restoreAll()
      syncBuiltinESMExports()
    })
    const cases: [totalGib: number, freeGib: number, status: number][] = [
      [10, 0.51, 202],
      [10, 0.49, 429],
      [100, 1.01, 202],
      [100, 0.99, 429],
      // And by itself again.
      [100, 50, 202],
    ]
    for (const [totalGib, freeGib, status] of cases) {
      device.totalBytes = totalGib * gib
      device.freeBytes = freeGib * gib
      // The space is looked at once a second.
      const answer = await pollUntil(
        async () => {
          const response = await post(s, `${totalGib} ${freeGib}`)
          return response.status === status && response
        },
        { what: `${status} with ${freeGib} of ${totalGib} GiB free`, everyMs: 50 },
      )
      if (status === 429) await assertRefused(answer, 'DISK_FULL')
    }
    await assertEven(s)
  })
})

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'
import test from 'node:test'
import { createGzip, gzipSync } from 'node:zlib'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startChild } from './child.ts'
import { metric, minutesAgo, temporaryFolder } from './kit.ts'
import { isLong } from './long.ts'

const mib = 1024 * 1024
const path = '/billing.v1.BillingService/SendMetricsBatch'

/** So many zeros, a thousandth of it on the wire. */
async function bomb(bytes: number): Promise<Buffer> {
  const gzip = createGzip({ level: 9 })
  const out: Buffer[] = []
  gzip.on('data', chunk => out.push(chunk))
  const zeros = Buffer.alloc(4 * mib)
  for (let sent = 0; sent < bytes; sent += zeros.length) if (!gzip.write(zeros)) await once(gzip, 'drain')
  gzip.end()
  await once(gzip, 'end')
  return Buffer.concat(out)
}

test('G46: slow, idle, huge and malformed senders cost bounded memory, and ordinary ones are served all the while', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const billing = await startChild(t, { databaseUrl, dataDir: temporaryFolder(t) })
  const { hostname: host, port } = new URL(billing.url)
  const rssBytes = async () =>
    Number(/^process_resident_memory_bytes (\S+)/m.exec(await (await fetch(`${billing.url}/metrics`)).text())?.[1])
  const serves = async () => {
    const message = { vmId: 'vm-1', customerId: 'acme', metrics: [metric(minutesAgo(2), 1n)] }
    assert.equal((await billing.rpc('SendMetricsBatch', message)).status, 200)
  }
  const sockets: net.Socket[] = []
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  const connect = async () => {
    const socket = net.connect(Number(port), host)
    socket.on('error', () => {})
    sockets.push(socket)
    await once(socket, 'connect')
    return socket
  }
  /** What comes back before the connection ends, or the first so many bytes of it. */
  const answer = (socket: net.Socket, most = 2_000) =>
    new Promise<string>(resolve => {
      let text = ''
      socket.on('data', chunk => {
        text += chunk
        if (text.length >= most) resolve(text)
      })
      socket.once('close', () => resolve(text))
    })
  await serves()
  const before = await rssBytes()

  // Huge: header block, body, a body that says nothing of its length, and bombs of a GiB.
  const headers = await connect()
  headers.write(`POST ${path} HTTP/1.1\r\nhost: x\r\n${`x-filler: ${'a'.repeat(60_000)}\r\n`.repeat(20)}\r\n`)
  assert.match(await answer(headers), /^HTTP\/1.1 431 /)
  const post = (body: Buffer, more: Record<string, string>) =>
    fetch(billing.url + path, {
      method: 'POST',
      body: new Uint8Array(body),
      headers: { 'content-type': 'application/json', ...more },
    })
  const large = await post(Buffer.alloc(33 * mib, 0x20), {}).catch(() => null)
  if (large !== null)
    assert.deepEqual([large.status, ((await large.json()) as { code: string }).code], [429, 'resource_exhausted'])
  const endless = await connect()
  endless.setMaxListeners(0)
  const reply = answer(endless, 20)
  endless.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
  )
  const chunk = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(mib, 0x20), Buffer.from('\r\n')])
  let sentMib = 0
  for (; sentMib < 200 && endless.writable; sentMib++)
    if (!endless.write(chunk)) await Promise.race([once(endless, 'drain'), once(endless, 'close'), reply])
  assert.match(await reply, /^HTTP\/1.1 429 |^$/)
  const gib = await bomb(1024 * mib)
  for (let i = 0; i < 4; i++) {
    const refused = await post(gib, { 'content-encoding': 'gzip' })
    assert.equal(refused.status, 429)
  }
  const fits = await post(
    gzipSync(JSON.stringify({ vmId: 'v', customerId: 'c', metrics: [metric(minutesAgo(2), 1n)] })),
    {
      'content-encoding': 'gzip',
    },
  )
  assert.equal(fits.status, 200)
  await serves()

  // Malformed: anything at all, on a connection of its own.
  for (let i = 0; i < 40; i++) {
    const socket = await connect()
    socket.end(randomBytes(2_000))
    await answer(socket, 1)
    socket.destroy()
  }
  await serves()

  // Somebody who asks and asks and never reads the answers is cut off, whatever the answers weigh.
  const deaf = await connect()
  deaf.pause()
  deaf.setMaxListeners(0)
  const ask = Buffer.from('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(100))
  let asked = 0
  for (; asked < 20_000 && !deaf.destroyed && deaf.writableLength < mib; asked += 100) deaf.write(ask)
  await serves()

  // Idle: more connections than are taken. The rest is turned away, and room is made when others leave.
  const count = isLong ? 10_100 : 400
  const opened: Promise<net.Socket>[] = []
  for (let i = 0; i < count; i++) {
    opened.push(connect())
    if (i % 200 === 199) await Promise.all(opened)
  }
  const idle = await Promise.all(opened)
  for (const socket of idle) socket.resume()
  if (isLong) {
    await pollUntil(() => idle.filter(socket => socket.destroyed || socket.readableEnded).length >= 90, {
      what: 'connections beyond 10,000 to be closed',
    })
    // Slow: a header that never ends is cut off after thirty seconds.
    idle[0]?.write(`POST ${path} HTTP/1.1\r\nhost: x\r\nx-a`)
    await pollUntil(() => idle[0]?.destroyed === true || idle[0]?.readableEnded === true, {
      what: 'the slow sender to be cut off',
      timeoutMs: 60_000,
    })
  }
  for (const socket of sockets) socket.destroy()
  await pollUntil(
    async () => {
      await serves()
      return true
    },
    { what: 'an ordinary sender to be served' },
  )
  const grown = (await rssBytes()) - before
  assert.ok(grown < 250 * mib, `${Math.round(grown / mib)} MiB more`)
})

// Syslog over the wire: an official client, raw streams, TLS, and who may not send.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startService, type TestService } from './start.ts'

interface StoredRow {
  service: string
  level: string
  message: string
  metadata: Record<string, unknown>
}

async function storedRows(service: TestService, count: number): Promise<StoredRow[]> {
  let rows: StoredRow[] = []
  await pollUntil(
    async () => {
      rows = await service.sql<StoredRow[]>`select service, level, message, metadata from logs order by id`
      return rows.length >= count
    },
    { what: `${count} rows to be stored`, everyMs: 20 },
  )
  return rows
}

/** What the tests use of it; it brings no types. */
interface SyslogClient {
  Transport: Record<'Tcp' | 'Udp', number>
  Severity: { Warning: number }
  Facility: { Local0: number }
  createClient(
    host: string,
    o: object,
  ): { log(message: string, o: object, done: (error: Error | null) => void): void; close(): void }
}
const syslogClient: SyslogClient = createRequire(import.meta.url)('syslog-client')

const listening = { LOG_INGESTION_SYSLOG_TCP: '127.0.0.1:0', LOG_INGESTION_SYSLOG_UDP: '127.0.0.1:0' }

test('syslog-client by TCP and by UDP, RFC 3164 and RFC 5424', async t => {
  const service = await startService(t, { env: listening })
  const { Transport, Severity, Facility } = syslogClient
  const send = async (transport: 'Tcp' | 'Udp', rfc3164: boolean, message: string) => {
    const port = (transport === 'Tcp' ? service.syslog.tcp : service.syslog.udp)?.port
    const client = syslogClient.createClient('127.0.0.1', {
      transport: Transport[transport],
      port,
      rfc3164,
      syslogHostname: 'box',
      appName: 'shop',
    })
    const done = Promise.withResolvers<void>()
    client.log(message, { severity: Severity.Warning, facility: Facility.Local0 }, error =>
      error ? done.reject(error) : done.resolve(),
    )
    await done.promise
    client.close()
  }
  await send('Tcp', false, 'tcp 5424')
  await send('Tcp', true, 'tcp 3164')
  await send('Udp', false, 'udp 5424')
  await send('Udp', true, 'udp 3164')
  const rows = await storedRows(service, 4)
  assert.deepEqual(rows.map(row => row.message.trim()).sort(), ['tcp 3164', 'tcp 5424', 'udp 3164', 'udp 5424'])
  for (const { level, metadata } of rows)
    assert.deepEqual([level, metadata.facility, metadata.host, metadata.peer], ['WARN', 'local0', 'box', '127.0.0.1'])
})

test('counted frames, line feeds, and a last line that nobody ended', async t => {
  const service = await startService(t, { env: listening })
  const write = async (text: string) => {
    const socket = connect(service.syslog.tcp?.port ?? 0, '127.0.0.1')
    socket.end(text)
    socket.resume()
    await once(socket, 'close')
  }
  await write('12 <13>1 a b c 20 <13>second\nline here')
  await write('<13>first\n<13>second\n<13>last')
  const rows = await storedRows(service, 5)
  assert.deepEqual(rows.map(row => row.message).sort(), ['1 a b c ', 'first', 'last', 'second', 'second\nline here'])
})

test('input counts under the key that is named, in its tenant', async t => {
  const service = await startService(t, {
    env: { ...listening, LOG_INGESTION_API_KEYS: 'acme=acme-syslog-key', LOG_INGESTION_SYSLOG_KEY: 'router' },
  })
  // A stored key by its name, made when the listeners run already.
  const socket = connect(service.syslog.tcp?.port ?? 0, '127.0.0.1')
  socket.write('<13>waits until the key is known\n')
  const [{ id } = { id: 0 }] = await service.sql<{ id: number }[]>`select id from tenancy.tenant where slug = 'acme'`
  await service.sql`
    insert into tenancy.api_key (tenant_id, name, prefix, hash, scopes, created_by)
    values (${id}, 'router', 'rt_', ${Buffer.from('0123456789abcdef0123456789abcdef')}, ${['logs:write']}, 'test')`
  const rows = await storedRows(service, 1)
  assert.equal(rows[0]?.message, 'waits until the key is known')
  const [ledger] = await service.sql`select tenant, accepted from purser_logs.ledger`
  assert.deepEqual({ ...ledger }, { tenant: 'acme', accepted: 1n })
  socket.destroy()
})

test('TLS', async t => {
  const { cert, key } = certificate(t)
  const service = await startService(t, {
    env: {
      LOG_INGESTION_SYSLOG_TCP: '127.0.0.1:0',
      LOG_INGESTION_SYSLOG_TLS_CERT: cert,
      LOG_INGESTION_SYSLOG_TLS_KEY: key,
    },
  })
  const socket = connectTls({ port: service.syslog.tcp?.port ?? 0, host: '127.0.0.1', rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  socket.end('<13>secret line\n')
  assert.equal((await storedRows(service, 1))[0]?.message, 'secret line')
})

test('who is not allowed is not heard, and counted', async t => {
  const service = await startService(t, { env: { ...listening, LOG_INGESTION_SYSLOG_ALLOW: '10.0.0.0/8' } })
  const socket = connect(service.syslog.tcp?.port ?? 0, '127.0.0.1')
  socket.on('error', () => {})
  socket.resume()
  await once(socket, 'close')
  const udp = createSocket('udp4')
  udp.send('<13>x', service.syslog.udp?.port ?? 0, '127.0.0.1', () => udp.close())
  await pollUntil(
    async () => {
      const metrics = await (await service.get('/metrics')).text()
      return ['tcp', 'udp'].every(name =>
        metrics.includes(`log_ingestion_syslog_messages_total{transport="${name}",result="refused"} 1`),
      )
    },
    { what: 'both to be counted', everyMs: 20 },
  )
})

function certificate(t: TestContext): { cert: string; key: string } {
  const dir = execFileSync('mktemp', ['-d']).toString().trim()
  t.after(() => execFileSync('rm', ['-rf', dir]))
  const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')]
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '1',
      '-subj',
      '/CN=localhost',
      '-keyout',
      key,
      '-out',
      cert,
    ],
    { stdio: 'ignore' },
  )
  return { cert, key }
}

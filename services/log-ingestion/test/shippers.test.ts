// Debian's rsyslog, unmodified, as its documentation says: over syslog, and as if to Elasticsearch.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startService, type TestService, writeKey } from './start.ts'

const rsyslogd = '/usr/sbin/rsyslogd'
const skip = existsSync(rsyslogd) ? false : 'rsyslog is not installed (apt-get install rsyslog rsyslog-elasticsearch)'

interface StoredRow {
  service: string
  level: string
  message: string
  metadata: Record<string, unknown>
}

/** Runs rsyslog with this action behind a UDP input, sends it a message, and gives what came of it. */
async function forwarded(t: TestContext, service: TestService, modules: string, action: string): Promise<StoredRow[]> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-rsyslog-'))
  const free = createSocket('udp4').bind(0, '127.0.0.1')
  await new Promise(resolve => free.once('listening', resolve))
  const { port } = free.address()
  await new Promise<void>(resolve => free.close(() => resolve()))
  const config = join(dir, 'rsyslog.conf')
  await writeFile(
    config,
    `global(workDirectory="${dir}")
module(load="imudp")
${modules}
template(name="document" type="list" option.json="on") {
  constant(value="{\\"@timestamp\\":\\"") property(name="timereported" dateFormat="rfc3339")
  constant(value="\\",\\"message\\":\\"") property(name="msg")
  constant(value="\\",\\"level\\":\\"") property(name="syslogseverity-text")
  constant(value="\\",\\"service\\":\\"") property(name="programname") constant(value="\\"}")
}
input(type="imudp" address="127.0.0.1" port="${port}")
${action}
`,
  )
  const child = spawn(rsyslogd, ['-n', '-f', config, '-i', join(dir, 'pid')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let talk = ''
  child.stderr.on('data', text => {
    talk += text
  })
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  t.after(async () => {
    child.kill('SIGKILL')
    await gone
    await rm(dir, { recursive: true, force: true })
  })
  const sender = createSocket('udp4')
  t.after(() => sender.close())
  const stamp = new Date().toISOString()
  let rows: StoredRow[] = []
  await pollUntil(
    async () => {
      // Sent until it listens: what comes before that is lost, as UDP is.
      sender.send(`<12>1 ${stamp} box shop 42 - - stock is low`, port, '127.0.0.1')
      rows = await service.sql<StoredRow[]>`select service, level, message, metadata from logs order by id`
      return rows.length > 0
    },
    { what: `rsyslog to forward; it says: ${talk}`, everyMs: 100 },
  )
  return rows
}

test('rsyslog forwards by TCP, framed by octet counts and by line feeds', { skip }, async t => {
  for (const framing of ['octet-counted', 'traditional']) {
    const service = await startService(t, { env: { LOG_INGESTION_SYSLOG_TCP: '127.0.0.1:0' } })
    const target = `target="127.0.0.1" port="${service.syslog.tcp?.port}" protocol="tcp"`
    const action = `action(type="omfwd" ${target} TCP_Framing="${framing}" template="RSYSLOG_SyslogProtocol23Format")`
    const [row] = await forwarded(t, service, '', action)
    assert.deepEqual([row?.service, row?.level, row?.message], ['shop', 'WARN', 'stock is low'])
    assert.deepEqual([row?.metadata.host, row?.metadata.pid, row?.metadata.facility], ['box', '42', 'user'])
  }
})

test('rsyslog forwards in its older formats by UDP', { skip }, async t => {
  const service = await startService(t, { env: { LOG_INGESTION_SYSLOG_UDP: '127.0.0.1:0' } })
  const target = `target="127.0.0.1" port="${service.syslog.udp?.port}" protocol="udp"`
  const [row] = await forwarded(t, service, '', `action(type="omfwd" ${target} template="RSYSLOG_ForwardFormat")`)
  assert.deepEqual([row?.service, row?.level, row?.message.trim()], ['shop', 'WARN', 'stock is low'])
  assert.deepEqual([row?.metadata.host, row?.metadata.pid], ['box', '42'])
})

test('rsyslog’s omelasticsearch, in bulk', { skip }, async t => {
  const service = await startService(t)
  const { hostname, port } = new URL(service.url)
  const server = `server="${hostname}" serverport="${port}" uid="rsyslog" pwd="${writeKey}"`
  const shape = 'bulkmode="on" searchIndex="system-2026.01.15" searchType="" template="document" esVersion.major="8"'
  // rsyslog's own word for the severity is `warning`, one of ours.
  const [row] = await forwarded(
    t,
    service,
    'module(load="omelasticsearch")',
    `action(type="omelasticsearch" ${server} ${shape})`,
  )
  assert.deepEqual([row?.service, row?.level, row?.message.trim()], ['shop', 'WARNING', 'stock is low'])
})

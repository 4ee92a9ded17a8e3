// Debian's syslog-ng, unmodified: syslog in both formats and framings, and its http() with nothing but a URL and a key. It
// keeps what it could not send, so a restart of ours, or a kill, may neither lose nor repeat a line.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Sql } from '#platform/postgres'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startProcess } from './process.ts'
import { startService, writeKey } from './start.ts'
import { findSyslogNg, startSyslogNg } from './syslog-ng.ts'

const syslogNg = await findSyslogNg()
const skip = typeof syslogNg === 'string' ? syslogNg : false

/** Started with this configuration. */
async function shipper(t: TestContext, configuration: string) {
  if (typeof syslogNg === 'string') throw new Error(syslogNg)
  return await startSyslogNg(t, syslogNg, configuration)
}

interface StoredRow {
  service: string
  level: string
  message: string
  metadata: Record<string, unknown>
}

async function stored(sql: Sql, count: number, said: () => string): Promise<StoredRow[]> {
  let rows: StoredRow[] = []
  await pollUntil(
    async () => {
      rows = await sql<StoredRow[]>`select service, level, message, metadata from logs order by id`
      return rows.length >= count
    },
    { what: `${count} rows; there are ${rows.length}, and syslog-ng says: ${said()}`, everyMs: 50, timeoutMs: 60_000 },
  ).catch(error => {
    throw new Error(`${rows.length} of ${count} rows; syslog-ng says: ${said()}`, { cause: error })
  })
  return rows
}

const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => `line ${from + at}`)

const byNumber = (rows: readonly StoredRow[]) =>
  rows.map(({ message }) => message).sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)))

const overSyslog = [
  ['syslog(), RFC 5424 with octet counts', 'syslog'],
  ['network(), RFC 3164 with line feeds', 'network'],
] as const

for (const [name, driver] of overSyslog)
  test(`syslog-ng’s ${name}: every line once, over a restart in the middle of the flow`, { skip }, async t => {
    const service = await startService(t, { env: { LOG_INGESTION_SYSLOG_TCP: '127.0.0.1:0' } })
    const { port } = service.syslog.tcp ?? { port: 0 }
    const shipping = await shipper(
      t,
      `destination purser { ${driver}("127.0.0.1" port(${port}) transport("tcp")); };
       log { source(lines); destination(purser); };`,
    )
    await shipping.write(numbered(0, 300))
    const [first] = await stored(service.sql, 1, () => shipping.said)
    assert.deepEqual([first?.service, first?.level, first?.message], ['shop', 'INFO', 'line 0'])
    assert.deepEqual([first?.metadata.peer, first?.metadata.facility], ['127.0.0.1', 'user'])
    // Some are on their way when we leave, some are written while nobody listens.
    await shipping.write(numbered(300, 3_000))
    const restarting = service.restart({ LOG_INGESTION_SYSLOG_TCP: `127.0.0.1:${port}` })
    await shipping.write(numbered(3_000, 3_500))
    await restarting
    await shipping.write(numbered(3_500, 4_000))
    assert.deepEqual(byNumber(await stored(service.sql, 4_000, () => shipping.said)), numbered(0, 4_000))
  })

test('syslog-ng’s http(), in batches of JSON lines: fields where they belong', { skip }, async t => {
  const service = await startService(t)
  const shipping = await shipper(
    t,
    `destination purser {
       http(url("${service.url}/api/v1/logs/ndjson") method("POST") headers("X-API-Key: ${writeKey}")
         delimiter("\\n") batch-lines(20) batch-timeout(100)
         body('{"timestamp":"\${ISODATE}","service":"\${PROGRAM}","level":"\${LEVEL}","message":"\${MESSAGE}"}'));
     };
     log { source(lines); destination(purser); };`,
  )
  await shipping.write(numbered(0, 100))
  const rows = await stored(service.sql, 100, () => shipping.said)
  assert.deepEqual(byNumber(rows), numbered(0, 100))
  assert.deepEqual([rows[0]?.service, rows[0]?.level], ['shop', 'INFO'])
})

test('syslog-ng’s http(): every line once, though the service is killed in the middle of the flow', {
  skip,
}, async t => {
  const database = await testDatabase(t)
  const { dir } = await startService(t)
  const env = {
    LOG_INGESTION_SERVER_HOST: '127.0.0.1',
    LOG_INGESTION_DATA_DIR: `${dir}/killed`,
    LOG_INGESTION_DATABASE_URL: database.url,
    LOG_INGESTION_API_KEYS: writeKey,
    LOG_INGESTION_BATCH_FLUSH_INTERVAL: '20ms',
    LOG_INGESTION_RATELIMIT_ENABLED: 'false',
    LOG_INGESTION_SELF_LOGS: 'false',
  }
  const first = startProcess(t, { env: { ...env, LOG_INGESTION_SERVER_PORT: '0' } })
  const url = await first.url
  // Only lines that carry a time of their own may be known again when they come a second time.
  const shipping = await shipper(
    t,
    `destination purser {
       http(url("${url}/api/v1/logs/ndjson?service=shop") method("POST") headers("X-API-Key: ${writeKey}")
         body('{"timestamp":"\${ISODATE}","message":"\${MESSAGE}"}'));
     };
     log { source(lines); destination(purser); };`,
  )
  await shipping.write(numbered(0, 2_000))
  await stored(database.sql, 50, () => shipping.said)
  first.process.kill('SIGKILL')
  await first.exited
  const second = startProcess(t, { env: { ...env, LOG_INGESTION_SERVER_PORT: new URL(url).port } })
  await second.url
  assert.deepEqual(byNumber(await stored(database.sql, 2_000, () => shipping.said)), numbered(0, 2_000))
})

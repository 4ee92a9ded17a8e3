import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { smallDisk } from '../../../test/kit/full-disk.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Verification } from '../close/verify.ts'
import { startChild } from './child.ts'
import { startGate } from './gate.ts'
import { metric, minuteNs, minutesAgo, quantityOf, startBilling, temporaryFolder } from './kit.ts'

const baseNs = minutesAgo(600)
const batch = (vmId: string, hour: number) => ({
  vmId,
  customerId: 'acme',
  metrics: [0n, 20n, 40n].map(m => {
    const atNs = (baseNs / (60n * minuteNs)) * 60n * minuteNs + (BigInt(hour) * 60n + m) * minuteNs
    // From 1: six zeros are no reading.
    return metric(atNs, BigInt(hour) * 60n + m + 1n)
  }),
})

interface Report {
  status: string
  checks: Record<string, { status: string; detail?: string }>
}
type Child = Awaited<ReturnType<typeof startChild>>
const health = async (billing: Child) => (await (await fetch(`${billing.url}/health`)).json()) as Report
const verify = async (billing: Child) => (await billing.api('POST', '/v1/verify')).body as Verification
const damaged = async (billing: Child, what: string) =>
  Number(
    new RegExp(`^billaged_damaged_total\\{what="${what}"\\} (\\d+)`, 'm').exec(
      await (await fetch(`${billing.url}/metrics`)).text(),
    )?.[1],
  )

test('G7: a damaged part and a damaged journal segment are set aside, counted, shown in /health and by verify, and what lies around them is read', async t => {
  const { url, sql } = await testDatabase(t)
  const gate = await startGate(t, url)
  const dataDir = temporaryFolder(t)
  const corrupt = join(dataDir, 'billaged', 'corrupt')
  const env = { BILLAGED_MIN_GAP: '1h' }
  let billing = await startChild(t, { databaseUrl: gate.url, dataDir, env })
  for (const hour of [0, 1, 2]) await billing.rpc('SendMetricsBatch', batch('vm-1', hour))
  assert.equal(quantityOf(await billing.usage('acme'), 'vm_cpu'), 160n)
  assert.deepEqual([(await health(billing)).status, (await verify(billing)).problems], ['ok', []])

  // One byte of the middle hour's part.
  const [part] = await sql<{ hour: number; body: Buffer }[]>`
    update billaged.sample_part set body = set_byte(body, 20, get_byte(body, 20) # 4)
    where hour = (select min(hour) + 1 from billaged.sample_part) returning hour, body`
  await sql`truncate billaged.usage_hour`
  // What was read before is kept in memory; from here on it comes from the database.
  await billing.kill()
  billing = await startChild(t, { databaseUrl: gate.url, dataDir, env })
  // 0–40 and 120–160 are there, and the time between them is one pair.
  assert.equal(quantityOf(await billing.usage('acme'), 'vm_cpu'), 80n)
  const aside = await pollUntil(() => readdirSync(corrupt).find(name => name.endsWith('.part')), {
    what: 'a file',
  })
  assert.deepEqual(readFileSync(join(corrupt, aside)), part?.body)
  assert.equal(await damaged(billing, 'part'), 1)
  const { status, checks } = await health(billing)
  assert.deepEqual([status, checks.damage?.status], ['degraded', 'degraded'])
  assert.match(
    checks.damage?.detail ?? '',
    /1 damaged and set aside, listed in .*damage\.ndjson; the last: part of series .* CRC/,
  )
  const found = await verify(billing)
  assert.equal(found.ok, false)
  assert.match(found.problems.join('\n'), /part of series \d+, hour 2\d{3}-.*: part has CRC/)

  // Three requests that only the journal has; the one in the middle rots while the service is down.
  await gate.goAway()
  for (const vmId of ['vm-2', 'vm-3', 'vm-4'])
    assert.equal((await billing.rpc('SendMetricsBatch', batch(vmId, 3))).status, 200)
  await billing.kill()
  const journal = join(dataDir, 'billaged', 'journal')
  for (const name of readdirSync(journal).filter(file => file.endsWith('.journal'))) {
    const bytes = readFileSync(join(journal, name))
    const at = bytes.indexOf('vm-3')
    if (at < 0) continue
    bytes[at + 3] = (bytes[at + 3] ?? 0) ^ 1
    writeFileSync(join(journal, name), bytes)
  }
  await gate.comeBack()
  billing = await startChild(t, { databaseUrl: gate.url, dataDir, env })
  const { rows } = await billing.usage('acme', '&by=vm')
  const vms = new Set(rows.map(row => row.vmId))
  assert.deepEqual([vms.has('vm-2'), vms.has('vm-3'), vms.has('vm-4')], [true, false, true])
  assert.match((await health(billing)).checks.damage?.detail ?? '', /2 damaged and set aside/)
  assert.equal(await damaged(billing, 'journal'), 1)
  assert.ok(
    readdirSync(corrupt).some(name => name.endsWith('.bytes')),
    'the bytes of the journal',
  )
  assert.match((await verify(billing)).problems.join('\n'), /journal segment [0-9a-f-]{36}, bytes \d+–\d+/)
  // Sent again, as the sender of an unanswered request would, it counts. The list is taken away by whoever looked.
  await billing.rpc('SendMetricsBatch', batch('vm-3', 3))
  assert.ok((await billing.usage('acme', '&by=vm')).rows.some(row => row.vmId === 'vm-3'))
})

test('G6: on a full disk the append fails whole, the reply is 503, health is red, and work goes on when space returns', async t => {
  const disk = await smallDisk(t, { bytes: 8 * 1024 * 1024 })
  if (disk === undefined) return
  const { url } = await testDatabase(t)
  const gate = await startGate(t, url)
  const billing = await startBilling(t, { databaseUrl: gate.url, dataDir: disk.dir })
  assert.equal((await billing.rpc('SendMetricsBatch', batch('vm-0', 0))).status, 200)
  await gate.goAway()
  await disk.fill()
  const acknowledged: string[] = []
  let refused = null
  for (let i = 1; refused === null && i < 20_000; i++) {
    const reply = await billing.rpc('SendMetricsBatch', batch(`vm-${i}`, 0))
    if (reply.status === 200) acknowledged.push(`vm-${i}`)
    else refused = reply
  }
  assert.equal(refused?.status, 503)
  assert.ok(Number(refused?.headers.get('retry-after')) > 0)
  assert.match(JSON.stringify(refused?.body), /unavailable/)
  const red = await fetch(`${billing.url}/health`)
  assert.deepEqual([red.status, ((await red.json()) as Report).checks.journal?.status], [503, 'down'])
  await disk.free()
  await pollUntil(async () => (await fetch(`${billing.url}/health/ready`)).status === 200, {
    what: 'a green health check',
  })
  assert.equal((await billing.rpc('SendMetricsBatch', batch('vm-after', 0))).status, 200)
  await gate.comeBack()
  const { rows } = await billing.usage('acme', '&by=vm')
  const cpu = rows.filter(row => row.meter === 'vm_cpu')
  // All that was acknowledged, whole, and nothing of what was refused.
  assert.deepEqual(cpu.map(row => row.vmId).toSorted(), ['vm-0', 'vm-after', ...acknowledged].toSorted())
})

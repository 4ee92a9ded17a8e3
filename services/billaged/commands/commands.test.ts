import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '#platform/config'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Invoice } from '../api.ts'
import { spec } from '../config.ts'
import { type Billing, metric, minuteNs, startBilling, temporaryFolder, testEnv } from '../test/kit.ts'
import { close, verify } from './close.ts'
import { runVerb } from './command.ts'
import { explain, invoice } from './invoice.ts'
import { plan, subscribe } from './plan.ts'
import { quarantine } from './quarantine.ts'
import { reconcile } from './reconcile.ts'
import { exportFocus, preview, status } from './usage.ts'

const main = fileURLToPath(new URL('../main.ts', import.meta.url))
const month = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
  .subtract({ months: 1 })
const name = month.toPlainDate().toString().slice(0, 7)

const verbs = {
  close,
  explain,
  export: exportFocus,
  invoice,
  plan,
  preview,
  quarantine,
  reconcile,
  status,
  subscribe,
  verify,
}

/** `billaged …` as a person types it: the service's address is given, the key lies in its data folder. */
async function billaged(billing: Billing, line: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const [, verb = '', ...args] = line.split(' ')
  const command = Object.entries(verbs).find(([name]) => name === verb)?.[1]
  if (command === undefined) assert.fail(`${verb} is no command`)
  const loaded = loadConfig(spec, { env: testEnv(billing) })
  if (!loaded.ok) assert.fail(JSON.stringify(loaded.problems))
  const [stdout, stderr]: string[][] = [[], []]
  const code = await runVerb(command.verb, [...args, '-server', billing.url], loaded.config, {
    result: text => void stdout?.push(text.toString()),
    talk: text => void stderr?.push(text),
  })
  return { code, stdout: stdout?.join('') ?? '', stderr: stderr?.join('') ?? '' }
}

async function prepare(t: TestContext): Promise<Billing> {
  const billing = await startBilling(t)
  const start = month.toInstant().epochNanoseconds
  const metrics = Array.from({ length: 121 }, (_, i) =>
    metric(start + BigInt(i) * minuteNs, BigInt(i) * minuteNs + 1n, { diskReadBytes: `${i * 1000}` }),
  )
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })
  await billing.usage('acme')
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000003' }],
  })
  return billing
}

test('the commands that a blocked close prints mend it, word for word; then it closes, explains itself and verifies', async t => {
  const billing = await prepare(t)
  const fixOf = (text: string) => / → (.*?)(?:, or |$)/m.exec(text)?.[1]?.replace('PLAN', 'std') ?? ''

  let closing = await billaged(billing, `billaged close ${name} --dry-run`)
  assert.equal(closing.code, 3, closing.stderr)
  assert.match(closing.stdout, /^0 ready · 1 blocked\n {2}acme: unrated_usage vm_cpu 7,200,000,000,000 ns/)
  let fixed = await billaged(billing, fixOf(closing.stdout))
  assert.equal(fixed.code, 0, fixed.stderr)

  closing = await billaged(billing, `billaged close ${name} --dry-run`)
  assert.match(
    closing.stdout,
    /unrated_usage vm_disk_read 120,000 bytes → billaged plan add-price std --meter vm_disk_read/,
  )
  const unbilled = /, or (billaged plan unbilled .*)$/m.exec(closing.stdout)?.[1] ?? ''
  fixed = await billaged(billing, unbilled)
  assert.deepEqual(
    [fixed.code, fixed.stdout],
    [0, `std v2 from ${month.toInstant().toString({ smallestUnit: 'millisecond' })}\n`],
  )

  closing = await billaged(billing, `billaged close ${name}`)
  assert.equal(closing.code, 0)
  assert.match(closing.stdout, /^1 finalised · 0 blocked\n {2}INV-\d{4}-000001 {2}acme {2}USD 0.200000006\n$/)
  const shown = await billaged(billing, `billaged invoice acme ${name} --json`)
  const found: Invoice = JSON.parse(shown.stdout)
  assert.equal(found.due, '0.20')
  const csv = await billaged(billing, `billaged invoice ${found.id} --format=csv`)
  assert.match(csv.stdout, /^invoice,number,.*\r\n/)
  const explained = await billaged(billing, `billaged explain ${found.lines[0]?.id}`)
  const lines = explained.stdout.split('\n')
  assert.match(lines[0] ?? '', /^acme · \w+ \d{4} · CPU {2,}USD 0\.200000006$/)
  assert.equal(lines[2], '  quantity  7,200,000,000,000 ns = 2 core-hours  (1 VM, 3 hours)')
  assert.equal(lines[3], '  floor     7200000000000 × 100000003 ÷ 3600000000000 = 200000006 rem 0')
  assert.match(lines[4] ?? '', /^ {2}evidence {2}3 leaves, Merkle root [0-9a-f]{8}…; receipt #1 chained to 00000000…$/)

  const verified = await billaged(billing, 'billaged verify')
  assert.equal(verified.code, 0)
  assert.match(
    verified.stdout,
    /^1 receipt, 4 documents, \d+ hours of usage and \d+ parts of readings checked: 0 differences\n$/,
  )
  const focus = await billaged(billing, `billaged export ${name}`)
  assert.match(focus.stdout, /^BilledCost,BillingAccountId,.*\r\n0\.200000006,acme,/)
  // Our own export is another biller that agrees; one cent more, and exit 3 names it.
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'same.csv'), focus.stdout)
  const same = await billaged(billing, `billaged reconcile ${join(folder, 'same.csv')}`)
  assert.deepEqual([same.code, same.stdout], [0, '2 items compared: 2 equal, 0 different\n'])
  writeFileSync(join(folder, 'other.csv'), `customer,period,amount\nacme,${name},0.21\n`)
  const other = await billaged(billing, `billaged reconcile ${join(folder, 'other.csv')}`)
  assert.equal(other.code, 3)
  assert.match(
    other.stdout,
    /^1 item compared: 0 equal, 1 different\n.*\n {2}acme +\d{4}-\d\d +total +0.21 +0.2 +-0.01\n$/,
  )
  assert.equal((await billaged(billing, `billaged reconcile ${join(folder, 'other.csv')} --tolerance 0.01`)).code, 0)
  const pdf = await billing.api('GET', `/v1/invoices/${found.id}.pdf`)
  assert.equal(pdf.headers.get('content-type'), 'application/pdf')
  const whatIf = await billaged(billing, `billaged preview --plan example --from ${month.toInstant()}`)
  assert.match(whatIf.stdout, /^customer +now +example +difference\nacme +USD 0\.2\d+ +USD 0\.2\d* +USD -?0\./)
  const wrong = await billaged(billing, 'billaged close last-month')
  assert.equal(wrong.code, 2)
  assert.match(wrong.stderr, /write it like 2026-10\nUsage: billaged close YYYY-MM/)
  assert.equal((await billaged(billing, 'billaged explain li_none')).code, 1)
  assert.match((await billaged(billing, 'billaged status')).stdout, /^billaged .*: ok, /)

  // More customers and months than one call takes are asked about in several.
  const many = Array.from({ length: 501 }, (_, i) => `customer-${i},${name},1`)
  writeFileSync(join(folder, 'many.csv'), `customer,period,amount\n${many.join('\n')}\nacme,${name},0.2\n`)
  const compared = await billaged(billing, `billaged reconcile ${join(folder, 'many.csv')} --tolerance 0.01`)
  assert.match(compared.stdout, /^502 items compared: 1 equal, 501 different\n/, compared.stderr)

  // The same through the program itself.
  const env = { PATH: process.env.PATH ?? '', LOG_LEVEL: 'fatal', ...testEnv(billing) }
  const run = (...words: string[]) =>
    new Promise<string>(resolve => {
      const args = ['--disable-warning=ExperimentalWarning', main, ...words]
      execFile(process.execPath, args, { env }, (_, stdout) => resolve(stdout))
    })
  assert.deepEqual(await Promise.all([run('close', name, '--dry-run', '-server', billing.url), run('migrate')]), [
    '0 ready · 1 finalised · 0 blocked\n',
    'up to date\n',
  ])
  // The address may stand in the environment, as for billaged-cli; the flag wins.
  const nowhere = 'http://127.0.0.1:9'
  const addressed = (UNKEY_BILLAGED_SERVER_ADDRESS: string) => Object.assign(env, { UNKEY_BILLAGED_SERVER_ADDRESS })
  addressed(new URL(billing.url).host)
  assert.equal(await run('close', name, '--dry-run'), '0 ready · 1 finalised · 0 blocked\n')
  addressed(nowhere)
  assert.equal(await run('close', name, '--dry-run'), '')
  assert.equal(await run('close', name, '--dry-run', '-server', billing.url), '0 ready · 1 finalised · 0 blocked\n')
})

test('quarantine is decided item by item or, of a customer, all at once; what cannot be released is named and keeps nothing else waiting', async t => {
  const billing = await startBilling(t)
  const metrics = [{ cpuTimeNanos: '7' }, ...[1n, 2n, 3n].map(n => metric(n * minuteNs + 10n ** 18n, n))]
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics })
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'globex', metrics: metrics.slice(1, 2) })
  const run = async (line: string) => {
    const { code, stdout, stderr } = await billaged(billing, `billaged quarantine ${line}`)
    return [code, stdout.trim(), stderr.trim()]
  }
  const listed = async () => (await run('--json'))[1]?.toString().match(/"id"/g)?.length ?? 0
  await pollUntil(async () => (await listed()) === 5, { what: 'five items' })
  assert.equal((await run('release --all'))[0], 2, 'not everybody’s at once')
  assert.equal((await run('relaese 1'))[0], 2)
  assert.deepEqual(await run('discard --all --customer globex --why checked'), [0, '1 discarded', ''])
  const [code, out, talk] = await run('release --all --customer acme --why looked')
  assert.deepEqual([code, out], [3, '3 released'])
  assert.match(`${talk}`, /^billaged: 1 not released: Item \d+ says not when it was measured/)
  assert.deepEqual(await run('discard --all --customer acme --set-aside-as too_old'), [0, '0 discarded', ''])
  assert.deepEqual(await run('discard --all --customer acme --set-aside-as no_timestamp'), [0, '1 discarded', ''])
  assert.deepEqual(await run('--customer acme'), [0, 'Nothing is in quarantine.', ''])
})

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { startBilling, temporaryFolder } from '../../test/kit.ts'
import { parsePath } from './adapters.ts'
import { createDeltaBiller } from './delta-biller.ts'
import { faults, makeScenario } from './scenario.ts'

const launcher = fileURLToPath(new URL('../../../../bin/billaged-cli', import.meta.url))
const minuteNs = 60_000_000_000n

test('on a bad day every kind of fault is billed exactly, but for what lies in gaps, and never above the truth', async t => {
  const billing = await startBilling(t)
  const server = new URL(billing.url).host
  const chaos = (...words: string[]) => runChaos(...words, '-server', server, '-key', billing.key)
  const file = join(temporaryFolder(t), 'chaos.jsonl')
  const { code, result } = await chaos('-seeds', '20', '-resume', file)
  assert.deepEqual([code, result.errorPercent], [0, '0.000000'])
  assert.deepEqual(
    result.faults.map(row => [row.fault, row.errorPercent, row.overchargePercent]),
    faults.map(fault => [fault, '0.000000', '0.000000']),
  )
  const delta = Object.fromEntries(result.faults.map(row => [row.fault, Number(row.deltaBillerPercent)]))
  assert.equal(delta.none, 0)
  assert.ok((delta.lost_reply ?? 0) > 50, 'a batch sent twice is nearly doubled by the biller that billaged replaces')

  // What is remembered is not run again, and an error in it is told for as long as it is there.
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  assert.equal(lines.length, 20)
  writeFileSync(file, `${lines.slice(0, 19).join('\n')}\n`.replace('"unexplained":"0"', '"unexplained":"1"'))
  const resumed = await chaos('-seeds', '20', '-resume', file, '-for', '10m')
  assert.deepEqual([resumed.code, resumed.result.done, resumed.result.errorPercent], [1, 20, '0.000001'])
  assert.equal(readFileSync(file, 'utf8').trim().split('\n').length, 20)
})

test('over two replicas, killed by a command, and read back as OpenMeter or by a path into any JSON, the bill is the same', async t => {
  const one = await startBilling(t)
  const other = await startBilling(t, { databaseUrl: one.databaseUrl, dataDir: temporaryFolder(t) })
  const servers = [one, other].map(({ url }) => new URL(url).host).join()
  const killed = join(temporaryFolder(t), 'killed')
  const exact = async (...words: string[]) => {
    const { code, result } = await runChaos(...words, '-server', servers, '-key', one.key, '-tolerance', '0')
    assert.deepEqual([code, result.errorPercent], [0, '0.000000'], words.join(' '))
    return result
  }
  const result = await exact('-seeds', '10', '-kill-cmd', `echo once >> ${killed}`)
  assert.equal(result.crashes, 1)
  assert.equal(readFileSync(killed, 'utf8'), 'once\n')
  await exact('-seeds', '2', '-seed', '7', '-adapter', 'openmeter')
  const url = '/api/v1/meters/{meter}/query?subject={customer}&from={from}&to={to}'
  await exact('-seeds', '2', '-seed', '1', '-adapter', 'http', '-bill-url', url, '-bill-path', '$.data[0].valueExact')
})

test('paths into JSON are read whole or refused', () => {
  assert.deepEqual(parsePath("$.a.b[0]['c d']"), ['a', 'b', 0, 'c d'])
  for (const wrong of ['', '$', 'a.b', '$.a[', '$.a b', '$..a', '$.a[-1]'])
    assert.throws(() => parsePath(wrong), /-bill-path is/, wrong)
})

async function runChaos(...words: string[]) {
  const child = spawn(launcher, ['chaos', ...words, '-json'], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const out: string[] = []
  child.stdout.on('data', chunk => out.push(String(chunk)))
  const [code] = await once(child, 'close')
  return { code, result: JSON.parse(out.join('')) as ChaosResult }
}

interface ChaosResult {
  errorPercent: string
  done: number
  crashes: number
  faults: Record<'fault' | 'errorPercent' | 'overchargePercent' | 'unmeasuredPercent' | 'deltaBillerPercent', string>[]
}

test('a scenario is a function of its seed, and the delta biller is right only when nothing goes wrong', () => {
  const endNs = 1_790_000_000_000n * 1_000_000n
  for (const fault of faults) assert.deepEqual(makeScenario(7, fault, endNs), makeScenario(7, fault, endNs))
  assert.notDeepEqual(makeScenario(7, 'all', endNs), makeScenario(8, 'all', endNs))
  const calm = makeScenario(7, 'none', endNs)
  const delta = createDeltaBiller()
  for (const message of calm.messages) delta.receive(message)
  assert.deepEqual(delta.billed, calm.truth)
  assert.ok(calm.toNs - calm.fromNs < 180n * minuteNs)
})

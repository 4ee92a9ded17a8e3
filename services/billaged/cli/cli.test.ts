import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { metric, minutesAgo, quantityOf, startBilling, temporaryFolder } from '../test/kit.ts'
import { parseArgs, UsageError } from './args.ts'

const launcher = fileURLToPath(new URL('../../../bin/billaged-cli', import.meta.url))

test('billaged-cli speaks as the guide shows: output, exit codes, flags before and after the command', async t => {
  const billing = await startBilling(t)
  const dir = temporaryFolder(t)
  const run = async (...args: string[]) => {
    const env = {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      UNKEY_BILLAGED_SERVER_ADDRESS: new URL(billing.url).host,
      PURSER_DATA_DIR: billing.dataDir,
    }
    const child = spawn(launcher, args, { env })
    const [out, err]: string[][] = [[], []]
    child.stdout.on('data', chunk => out?.push(String(chunk)))
    child.stderr.on('data', chunk => err?.push(String(chunk)))
    const [code] = await once(child, 'close')
    return { code, out: out?.join('') ?? '', err: err?.join('') ?? '' }
  }
  const sent = await run('send-metrics')
  assert.deepEqual(
    [sent.code, sent.out],
    [0, 'Metrics sent:\n  Success: true\n  Message: processed 1 metrics\n  Metrics count: 1\n'],
  )
  const json = await run('--tenant=acme', 'send-metrics', '-json', '-vm', 'vm-1')
  assert.deepEqual([json.code, json.out], [0, '{\n  "Success": true,\n  "Message": "processed 1 metrics"\n}\n'])
  const file = join(dir, 'readings.json')
  // A bare number that a double cannot hold.
  const readings = [metric(minutesAgo(3), 7n), { timestamp: metric(minutesAgo(2), 0n).timestamp, cpu_time_nanos: 0 }]
  writeFileSync(file, JSON.stringify(readings).replace('"cpu_time_nanos":0', '"cpu_time_nanos":9007199254740993'))
  assert.equal((await run('-tenant', 'globex', 'send-metrics', '-file', file)).code, 0)
  assert.equal(quantityOf(await billing.usage('globex'), 'vm_cpu'), 9_007_199_254_740_986n)
  const heartbeat = await run('heartbeat', '-vms', 'a,b')
  assert.equal(heartbeat.out, 'Heartbeat sent:\n  Success: true\n  Active VMs: 2\n')
  for (const command of ['notify-started', 'notify-stopped', 'notify-gap']) {
    const notice = await run(command, 'vm-9')
    assert.equal(notice.code, 0, notice.err)
    assert.match(notice.out, /notification:\n {2}VM ID: vm-9\n {2}Success: true\n/)
    const bare = await run(command)
    assert.equal(bare.code, 2)
    assert.match(bare.err, new RegExp(`VM ID is required for ${command} command`))
  }
  for (const args of [[], ['nonsense']]) {
    const help = await run(...args)
    assert.equal(help.code, 1)
    assert.match(help.err, /Usage: billaged-cli/)
  }
  const demo = await run('demo')
  assert.equal(demo.code, 0, demo.err)
  assert.match(demo.out, /Acme Robotics +last month +USD +[1-9]/)
  const again = await run('demo')
  assert.equal(again.out, demo.out)
})

test('flags take one or two dashes, = or a space, anywhere; unknown ones are refused', () => {
  const { flags, words } = parseArgs(['--server=a:1', 'heartbeat', '-json', '-timeout', '5s', '--vms', 'x, y'], {
    BILLAGED_TENANT_ID: 'acme',
    UNKEY_BILLAGED_TENANT_ID: 'globex',
  })
  assert.deepEqual(words, ['heartbeat'])
  assert.deepEqual(
    [flags.server, flags.json, flags.timeoutMs, flags.vms, flags.tenant],
    ['a:1', true, 5000, ['x', 'y'], 'globex'],
  )
  for (const argv of [['-nope'], ['-server'], ['-timeout', 'soon'], ['-json=maybe']])
    assert.throws(() => parseArgs(argv, {}), UsageError, argv.join(' '))
})

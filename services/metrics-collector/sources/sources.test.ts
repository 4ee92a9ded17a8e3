import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { machine } from 'node:os'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { runOnce } from '../cli/once.ts'
import { loadConfig } from '../config.ts'
import { chooseInterfaces, interfaceFilter } from '../interface-choice.ts'
import { compilePattern } from '../pattern.ts'
import type { Reading } from '../sample.ts'
import { parseStat } from './cpu.ts'
import { parseDiskstats } from './disk.ts'
import { chooseMounts, filesystemSource, parseMountinfo } from './filesystem.ts'
import { parseLoadavg } from './load.ts'
import { parseMeminfo } from './memory.ts'
import { parseProtocolTable, parseSockstat } from './netstat.ts'
import { networkSource, parseNetDev } from './network.ts'
import { parsePressure, parseVmstat } from './vmstat.ts'

const board = fileURLToPath(new URL('../fixtures/board', import.meta.url))

test('a board’s kernel files become exactly the series that node_exporter’s dashboards expect', async () => {
  const { out, err } = await once({ procfs: `${board}/proc`, sysfs: `${board}/sys`, rootfs: `${board}/root` })
  assert.equal(err, '')
  const lines = out
    .split('\n')
    // Sizes are those of the disk the test runs on.
    .filter(line => !/^(#|node_filesystem_(size|free|avail|files)|node_time_seconds|$)/.test(line))
    .map(line => line.replace(`machine="${machine()}"`, 'machine="MACHINE"'))
  assert.deepEqual(lines, readFileSync(`${board}/expected.prom`, 'utf8').trim().split('\n'))
  assert.match(out, /^node_filesystem_size_bytes\{.*mountpoint="\/boot firmware"\} [1-9]\d+$/m)
})

test('kernel files that are not there are absent, not an error', async () => {
  const { out, err } = await once({ procfs: '/nonexistent', sysfs: '/nonexistent', rootfs: '/nonexistent' })
  assert.equal(err, '')
  assert.ok(out.includes('node_time_seconds'))
})

const kernelText = (sample: string) =>
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    // Mutations of a real file find more than noise does.
    fc
      .tuple(
        fc.nat(sample.length),
        fc.nat(sample.length),
        fc.constantFrom('', '\0', '-1', '1e9', '\n', ':', '99999999999999999999', '\u0661'),
      )
      .map(([at, cut, patch]) => sample.slice(0, at) + patch + sample.slice(Math.max(at, cut))),
  )

const read = (path: string) => readFileSync(`${board}/proc/${path}`, 'utf8')
const parsers: [string, string, (text: string) => Reading[]][] = [
  ['stat', read('stat'), parseStat],
  ['loadavg', read('loadavg'), parseLoadavg],
  ['meminfo', read('meminfo'), parseMeminfo],
  ['diskstats', read('diskstats'), text => parseDiskstats(text, () => true)],
  ['net/dev', read('net/dev'), text => [...parseNetDev(text).values()].flat()],
  ['net/snmp', read('net/snmp'), parseProtocolTable],
  ['net/sockstat', read('net/sockstat'), parseSockstat],
  ['vmstat', read('vmstat'), parseVmstat],
  ['pressure', read('pressure/io'), text => parsePressure('io', text)],
  [
    'mountinfo',
    read('self/mountinfo'),
    text => chooseMounts(parseMountinfo(text), []).map(() => ({ name: 'm', labels: {}, kind: 'g', value: 0 })),
  ],
]

for (const [name, sample, parse] of parsers) {
  test(`whatever stands in ${name}, its parser gives finite numbers or nothing`, () => {
    assert.ok(parse(sample).length > 0)
    fc.assert(
      fc.property(kernelText(sample), text => {
        for (const reading of parse(text)) {
          assert.ok(Number.isFinite(reading.value), `${reading.name} is ${reading.value}`)
          assert.match(reading.name, /^[a-zA-Z_]\w*$/)
        }
      }),
      { numRuns: 120 },
    )
  })
}

test('an interface once reported stays when others appear, and what is left out is counted', async t => {
  const { mkdtemp, mkdir, rm, writeFile } = await import('node:fs/promises')
  const { tmpdir } = await import('node:os')
  const root = await mkdtemp(`${tmpdir()}/collector-net-`)
  t.after(() => rm(root, { recursive: true }))
  await mkdir(`${root}/net`)
  const show = (names: readonly string[]) =>
    writeFile(`${root}/net/dev`, names.map(name => `${name}: ${Array(16).fill(1).join(' ')}`).join('\n'))
  const source = networkSource(
    { procfs: root, sysfs: '/nonexistent', rootfs: '/' },
    { interfacesMax: 2, isWanted: () => true },
  )
  const devices = async () => new Set((await source()).flatMap(reading => reading.labels.device ?? []))
  await show(['usb0', 'wlan0'])
  assert.deepEqual(await devices(), new Set(['usb0', 'wlan0']))
  await show(['aaa0', 'usb0', 'wlan0'])
  assert.deepEqual(await devices(), new Set(['usb0', 'wlan0']))
  await show(['aaa0', 'usb0'])
  assert.deepEqual(await devices(), new Set(['usb0', 'aaa0']))
  const dropped = (await source()).find(reading => reading.name === 'network_interfaces_dropped_total')
  assert.equal(dropped?.value, 1)
})

test('interfaces: chosen before physical before name; includes beat excludes; containers’ links are left out', () => {
  assert.deepEqual(
    chooseInterfaces(['a', 'b', 'c', 'd'], ['d'], name => name === 'c', 3),
    ['d', 'c', 'a'],
  )
  const standard = interfaceFilter([], [])
  assert.deepEqual(['eth0', 'lo', 'veth1', 'docker0', 'usb0', 'wwan0', 'enx00'].filter(standard), [
    'eth0',
    'usb0',
    'wwan0',
    'enx00',
  ])
  const chosen = interfaceFilter([compilePattern('lo|eth.*')], [compilePattern('eth1')])
  assert.deepEqual(['lo', 'eth0', 'eth1', 'wlan0'].filter(chosen), ['lo', 'eth0', 'eth1'])
})

test('a mount whose device is gone is reported as an error of that mount, the others with their sizes', async () => {
  const source = filesystemSource(
    { procfs: `${board}/proc`, sysfs: '', rootfs: '/nonexistent' },
    { mounts: [], deadlineMs: 1_000 },
  )
  const readings = await source()
  assert.deepEqual(
    readings.filter(reading => reading.name === 'node_filesystem_device_error').map(reading => reading.value),
    [1, 1],
  )
})

test('mounts: one per device, whole before bind, network and memory ones left out unless asked for', () => {
  const mounts = parseMountinfo(read('self/mountinfo'))
  assert.deepEqual(
    chooseMounts(mounts, []).map(mount => mount.mountpoint),
    ['/', '/boot firmware'],
  )
  assert.deepEqual(
    chooseMounts(mounts, ['/run', '/mnt/share']).map(mount => mount.fstype),
    ['nfs4', 'tmpfs'],
  )
})

async function once(roots: { procfs: string; sysfs: string; rootfs: string }) {
  const loaded = loadConfig({ env: { METRICS_COLLECTOR_DEVICE_ID: 'board' }, roots })
  assert.ok(loaded.ok)
  let out = ''
  let err = ''
  const into = (take: (text: string) => void) => ({ write: take })
  await runOnce(
    loaded.config,
    into(text => (out += text)),
    into(text => (err += text)),
  )
  return { out, err }
}

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { testBase } from '../test/kit/base.ts'
import { startSequence } from './lifecycle.ts'

const program = fileURLToPath(new URL('../test/kit/sample-service.ts', import.meta.url))
const nodeArgs = ['--disable-warning=ExperimentalWarning', program]
const plainEnv = { PATH: process.env.PATH }

interface Line {
  level: string
  msg: string
  [field: string]: unknown
}

/** The sample as a child; `until(msg)` resolves to the first log line with that message, also one already seen. */
function startSample(t: TestContext, env: Record<string, string> = {}, args: string[] = []) {
  const child: ChildProcess = spawn(process.execPath, [...nodeArgs, ...args], {
    env: { ...plainEnv, LOG_FORMAT: 'json', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const lines: Line[] = []
  if (!child.stdout) throw new Error('BUG: no stdout')
  createInterface({ input: child.stdout }).on('line', text => void lines.push(JSON.parse(text) as Line))
  const exited = new Promise<number | string | null>(resolve =>
    child.once('close', (code, signal) => resolve(code ?? signal)),
  )
  const until = (msg: string) => waitFor(() => lines.find(line => line.msg === msg))
  return { child, lines, exited, until }
}

const run = (args: string[], env: Record<string, string> = {}) =>
  spawnSync(process.execPath, [...nodeArgs, ...args], { env: { ...plainEnv, ...env }, encoding: 'utf8' })

test('parts close in reverse order; a failed start closes what was up; a stuck part does not keep the others', async t => {
  const { log } = testBase(t)
  const order: string[] = []
  const part = (name: string) => async () => ({ close: async () => void order.push(name) })
  const parts = startSequence(log)
  await parts.add('a', part('a'))
  parts.onClose('stuck', () => new Promise(() => {}), { timeoutMs: 10 })
  await parts.add('b', part('b'))
  await assert.rejects(
    parts.add('c', async () => Promise.reject(new Error('no c'))),
    /no c/,
  )
  assert.deepEqual(order, ['b', 'a'])
  await assert.rejects(parts.close(), /did not stop cleanly/)
})

test('a wrong configuration is reported whole, before anything starts, with exit code 78', () => {
  const { status, stderr, stdout } = run([], { SAMPLE_PORT: 'x', SAMPLE_PROT: '1', SAMPLE_CLOSE_DELAY: '5' })
  assert.equal(status, 78)
  assert.match(stderr, /3 problems/)
  assert.equal(stdout, '')
})

test('flags take one dash or two: validate, print without secrets, version, help, commands with their exit code', t => {
  const dir = mkdtempSync(join(tmpdir(), 'lifecycle-'))
  t.after(() => rmSync(dir, { recursive: true }))
  writeFileSync(join(dir, 'good.yaml'), 'port: 1234\n')
  writeFileSync(join(dir, 'bad.yaml'), 'prt: 1234\n')
  assert.match(run(['-validate-config', '-config', join(dir, 'good.yaml')]).stdout, /configuration is valid/)
  const bad = run(['--validate-config', `--config=${join(dir, 'bad.yaml')}`])
  assert.deepEqual([bad.status, /prt is not a known key; did you mean port\?/.test(bad.stderr)], [78, true])
  const printed = run(['--print-config'], { SAMPLE_KEY: 'hunter2' }).stdout
  assert.match(printed, /SAMPLE_KEY=\*\*\* {2}# SAMPLE_KEY/)
  assert.doesNotMatch(printed, /hunter2/)
  assert.match(run(['-version']).stdout, /^sample \d+\.\d+\.\d+\n$/)
  assert.match(run(['--help']).stdout, /hello +says hello/)
  assert.deepEqual([run(['hello', 'a', '--b']).status, run(['hello', 'a', '--b']).stdout], [3, 'hello a --b\n'])
  const unknown = run(['--nonsense'])
  assert.deepEqual([unknown.status, /nonsense/.test(unknown.stderr)], [2, true])
})

test('TERM stops in order with exit code 0; a second one leaves at once', async t => {
  const polite = startSample(t)
  await polite.until('ready')
  polite.child.kill('SIGTERM')
  assert.equal(await polite.exited, 0)
  assert.deepEqual(
    polite.lines.slice(-4).map(l => l.msg),
    ['stopping', 'second part closed', 'first part closed', 'stopped'],
  )

  const hasty = startSample(t, { SAMPLE_CLOSE_DELAY: '9s' })
  await hasty.until('ready')
  hasty.child.kill('SIGTERM')
  await hasty.until('stopping')
  await waitFor(() => {
    hasty.child.kill('SIGTERM')
    return hasty.child.exitCode !== null
  })
  assert.equal(await hasty.exited, 130)
})

test('the same signal twice at once, as npm and a terminal send it together, is one', async t => {
  const sample = startSample(t, { SAMPLE_CLOSE_DELAY: '100ms' })
  await sample.until('ready')
  sample.child.kill('SIGINT')
  await sample.until('stopping')
  sample.child.kill('SIGINT')
  assert.equal(await sample.exited, 0)
  assert.equal(sample.lines.at(-1)?.msg, 'stopped')
})

test('a supervised process stops itself when the supervisor’s pipe closes', async t => {
  const sample = startSample(t, { PURSER_SUPERVISED: 'true' })
  await sample.until('ready')
  sample.child.stdin?.destroy()
  assert.equal(await sample.exited, 0)
  assert.equal((await sample.until('stopping')).why, 'the supervisor is gone')
})

test('a failed start says why with exit code 1 after closing what was up; a bug while running is fatal at once', async t => {
  const failed = startSample(t, { SAMPLE_FAIL_START: 'true' })
  assert.equal(await failed.exited, 1)
  assert.deepEqual(
    failed.lines.map(l => l.msg),
    ['second part closed', 'first part closed', 'cannot start'],
  )

  const crashing = startSample(t)
  const { url } = await crashing.until('ready')
  await fetch(`${String(url)}/crash`).catch(() => {})
  assert.equal(await crashing.exited, 1)
  assert.equal((await crashing.until('BUG: unexpected error, stopping at once')).level, 'FATAL')
})

test('HUP applies a valid configuration and keeps the running one otherwise', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'lifecycle-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'sample.yaml')
  writeFileSync(path, 'port: 0\n')
  const sample = startSample(t, {}, ['--config', path])
  const { url } = await sample.until('ready')
  sample.child.kill('SIGHUP')
  await sample.until('configuration reloaded')
  writeFileSync(path, 'port: [\n')
  sample.child.kill('SIGHUP')
  const refused = await waitFor(() => sample.lines.find(l => l.level === 'ERROR'))
  assert.match(refused.msg, /sample\.yaml.*\n.*The running configuration stays|The running configuration stays/s)
  rmSync(path)
  sample.child.kill('SIGHUP')
  await waitFor(() => sample.lines.some(l => l.level === 'ERROR' && /cannot be read/.test(l.msg)))
  assert.equal((await fetch(`${String(url)}/health`)).status, 200)
})

test('systemd is told READY, WATCHDOG, RELOADING and STOPPING on its own socket', {
  skip: process.platform !== 'linux' && 'sd_notify is Linux only',
}, async t => {
  const dir = mkdtempSync(join(tmpdir(), 'notify-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const socket = await receiveDatagrams(t, join(dir, 'notify'))
  const sample = startSample(t, { NOTIFY_SOCKET: join(dir, 'notify'), WATCHDOG_USEC: '200000' })
  const said = () => socket.messages().join('\n')
  await waitFor(() => /READY=1\nSTATUS=ready at http/.test(said()))
  await waitFor(() => (said().match(/WATCHDOG=1/g)?.length ?? 0) >= 3)
  sample.child.kill('SIGHUP')
  await waitFor(() => /RELOADING=1\nMONOTONIC_USEC=\d+/.test(said()))
  sample.child.kill('SIGTERM')
  await waitFor(() => said().includes('STOPPING=1'))
  assert.equal(await sample.exited, 0)
})

async function waitFor<T>(probe: () => T | undefined | false): Promise<T> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; ) {
    const found = probe()
    if (found) return found
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error('waited 60 s in vain')
}

/** A datagram socket as systemd would hold it; Node has none, so libc is called, as in the code under test. */
async function receiveDatagrams(t: TestContext, path: string) {
  const { dlopen, types } = await import('node:ffi')
  const { functions: libc } = dlopen(null, {
    socket: { arguments: [types.INT_32, types.INT_32, types.INT_32], return: types.INT_32 },
    bind: { arguments: [types.INT_32, types.BUFFER, types.UINT_32], return: types.INT_32 },
    recv: { arguments: [types.INT_32, types.BUFFER, types.UINT_64, types.INT_32], return: types.INT_64 },
    close: { arguments: [types.INT_32], return: types.INT_32 },
  })
  const fd = libc.socket(1, 2, 0)
  const address = Buffer.concat([Buffer.from([1, 0]), Buffer.from(`${path}\0`)])
  assert.equal(libc.bind(fd, address, address.length), 0)
  t.after(() => void libc.close(fd))
  const received: string[] = []
  const dontWait = 0x40
  return {
    messages() {
      for (;;) {
        const buffer = Buffer.alloc(4096)
        const length = Number(libc.recv(fd, buffer, 4096n, dontWait))
        if (length <= 0) return received
        received.push(buffer.toString('utf8', 0, length))
      }
    },
  }
}

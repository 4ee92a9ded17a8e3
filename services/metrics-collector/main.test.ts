import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { pollUntil } from '../../test/kit/poll.ts'
import type { HealthReport } from './api.ts'
import { startEndpoint } from './delivery/scripted-endpoint.ts'

const command = fileURLToPath(new URL('../../bin/metrics-collector', import.meta.url))

test('commands: exit codes, one dash or two, problems before anything is touched', async t => {
  const folder = await newFolder(t)
  const env = { METRICS_COLLECTOR_DEVICE_ID: 'x' }
  assert.match((await run(['-version'])).stdout, /^metrics-collector \d+\.\d+\.\d+\n$/)
  assert.match((await run(['--help'])).stdout, /Usage/)
  const starter = await run(['starter-config', '-device', 'd 1', '--data-dir', folder, '-listen=127.0.0.1:0'])
  assert.match(starter.stdout, /device_id: d 1\n/)
  assert.equal((await run(['-check-config'], env)).code, 0)
  assert.match((await run(['-print-config'], env)).stdout, /^device_id: x$/m)
  const broken = await run(['-validate-config'], { METRICS_COLLECTOR_NOPE: '1' })
  assert.equal(broken.code, 78)
  assert.match(broken.stderr, /METRICS_COLLECTOR_NOPE: is not a setting.*\ndevice_id: is required/)
  for (const args of [['-nope'], ['bogus'], ['doctor'], ['query']])
    assert.equal((await run(args, env)).code, 2, args.join(' '))
  const once = await run(['once', '-path.procfs', '/nonexistent'], env)
  assert.equal(once.code, 0)
  assert.match(once.stdout, /^node_time_seconds\{device_id="x"\}/m)
  assert.equal((await run(['status', '-url', 'http://127.0.0.1:1'], env)).code, 1)
})

test('of many starts on one database exactly one wins; the others exit 1 and name it', async t => {
  const folder = await newFolder(t)
  const racers = Array.from({ length: 4 }, () => startProcess(t, folder))
  await pollUntil(
    () => racers.some(racer => racer.ready) && racers.filter(racer => racer.code !== undefined).length === 3,
    {
      what: 'one winner and three losers',
    },
  )
  const winner = racers.find(racer => racer.ready)
  assert.equal(racers.filter(racer => racer.ready).length, 1)
  for (const loser of racers.filter(racer => !racer.ready)) {
    assert.equal(loser.code, 1)
    assert.match(loser.stderr, new RegExp(`already running \\(pid ${winner?.child.pid}, lock `))
  }
  assert.equal(await readFile(join(folder, 'metrics.db.lock'), 'utf8'), `${winner?.child.pid}\n`)
})

test('SIGTERM stops cleanly with exit 0; the supervisor’s death does the same', async t => {
  const folder = await newFolder(t)
  const first = startProcess(t, folder)
  await pollUntil(() => first.ready, { what: 'ready' })
  first.child.kill('SIGTERM')
  await pollUntil(() => first.code !== undefined, { what: 'exit' })
  assert.equal(first.code, 0, first.stderr)
  const second = startProcess(t, folder, { PURSER_SUPERVISED: '1' })
  await pollUntil(() => second.ready, { what: 'ready' })
  second.child.stdin?.end()
  await pollUntil(() => second.code !== undefined, { what: 'exit' })
  assert.equal(second.code, 0, second.stderr)
})

test('kill -9 at any moment: every sample that anyone was shown is there after the restart', async t => {
  const folder = await newFolder(t)
  const path = join(folder, 'metrics.db')
  /** Stamp → value of what the read API answered. */
  const shown = new Map<number, string>()
  for (let round = 0; round < 4; round++) {
    const collector = startProcess(t, folder)
    await pollUntil(() => collector.ready, { what: 'ready' })
    // At odd places between two ticks, a second apart.
    const untilMs = performance.now() + ((round * 370) % 1_500)
    do {
      const url = `${collector.url}/api/v1/query?query=${encodeURIComponent('node_context_switches_total[1h]')}`
      const body = (await (await fetch(url)).json()) as {
        data: { result: { values: [number, string][] }[] }
      }
      for (const [seconds, value] of body.data.result[0]?.values ?? []) shown.set(Math.round(seconds * 1_000), value)
    } while (performance.now() < untilMs)
    collector.child.kill('SIGKILL')
    await pollUntil(() => collector.code !== undefined, { what: 'death' })
  }
  const last = startProcess(t, folder)
  await pollUntil(() => last.ready, { what: 'ready' })
  const url = `${last.url}/api/v1/query?query=${encodeURIComponent('node_context_switches_total[1h]')}`
  const body = (await (await fetch(url)).json()) as { data: { result: { values: [number, string][] }[] } }
  const kept = new Map(
    (body.data.result[0]?.values ?? []).map(([seconds, value]) => [Math.round(seconds * 1_000), value]),
  )
  assert.ok(shown.size >= 4)
  for (const [stampMs, value] of shown) assert.equal(kept.get(stampMs), value)
  last.child.kill('SIGTERM')
  await pollUntil(() => last.code !== undefined, { what: 'exit' })
  const db = new DatabaseSync(path, { readOnly: true })
  t.after(() => db.close())
  assert.deepEqual({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' })
})

test('kill -9 of the collector and outages of the endpoint: all that was committed arrives, repeats are the same', async t => {
  const folder = await newFolder(t)
  let isUp = true
  let isLast = false
  const endpoint = await startEndpoint((_, res, n) => {
    // Taken but not acknowledged now and then: the answer is lost on its way, and the chunk must come again.
    if (isUp && (isLast || n % 5 !== 4)) return false
    res.destroy()
    return true
  })
  t.after(() => endpoint.close())
  const remote = {
    METRICS_COLLECTOR_REMOTE__URL: endpoint.url,
    METRICS_COLLECTOR_UPLOAD_INTERVAL: '50ms',
    METRICS_COLLECTOR_REMOTE__CHUNK_SIZE: '70',
    METRICS_COLLECTOR_REMOTE__RETRY__INITIAL_BACKOFF: '5ms',
    METRICS_COLLECTOR_MONITORING__CLOCK_SKEW_URL: 'http://127.0.0.1:9/',
  }
  for (let round = 0; round < 5; round++) {
    isUp = round !== 2
    const before = endpoint.all.length
    const collector = startProcess(t, folder, remote)
    await pollUntil(() => collector.ready && endpoint.all.length > before + round, {
      what: 'uploads',
      everyMs: 1,
    })
    collector.child.kill('SIGKILL')
    await pollUntil(() => collector.code !== undefined, { what: 'death' })
  }
  isUp = isLast = true
  const last = startProcess(t, folder, remote)
  await pollUntil(() => last.ready, { what: 'ready' })
  const pending = async () => {
    const { components } = (await (await fetch(`${last.url}/health`)).json()) as HealthReport
    return components.uploader?.details.pending_count
  }
  await pollUntil(async () => (await pending()) === 0, { what: 'an empty queue' })
  last.child.kill('SIGTERM')
  await pollUntil(() => last.code !== undefined, { what: 'exit' })
  assert.equal(last.code, 0)

  const db = new DatabaseSync(join(folder, 'metrics.db'), { readOnly: true })
  t.after(() => db.close())
  const committed = Number(db.prepare('SELECT sum(n) AS n FROM frame').get()?.n)
  // Throws when one sample came with two values.
  assert.equal(endpoint.samples().size, committed)
  const bodies = new Map<unknown, string>()
  for (const { headers, body } of endpoint.all) {
    assert.equal(bodies.get(headers['x-chunk-id']) ?? body, body)
    bodies.set(headers['x-chunk-id'], body)
  }
  assert.equal(db.prepare('SELECT count(*) AS n FROM inflight').get()?.n, 0)
})

async function newFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'collector-main-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Nothing of the caller's configuration reaches the process. */
function cleanEnv(env: Record<string, string>): Record<string, string | undefined> {
  const own = Object.entries(process.env).filter(([name]) => !/^(METRICS_COLLECTOR|PURSER|LOG)_/.test(name))
  return { ...Object.fromEntries(own), ...env }
}

function run(args: readonly string[], env: Record<string, string> = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    execFile(command, [...args], { env: cleanEnv(env) }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error ? -1 : 0, stdout, stderr })
    })
  })
}

function startProcess(t: TestContext, folder: string, env: Record<string, string> = {}) {
  const child: ChildProcess = spawn(command, [], {
    env: cleanEnv({
      METRICS_COLLECTOR_DEVICE_ID: 'test',
      METRICS_COLLECTOR_COLLECTION_INTERVAL: '1s',
      METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: '127.0.0.1:0',
      METRICS_COLLECTOR_STORAGE__PATH: join(folder, 'metrics.db'),
      ...env,
    }),
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const state = { child, ready: false, url: '', code: undefined as number | undefined, stderr: '' }
  child.stdout?.on('data', (chunk: Buffer) => {
    for (const line of chunk
      .toString()
      .split('\n')
      .filter(text => text.includes('"msg":"ready"'))) {
      state.url = String((JSON.parse(line) as { url: string }).url)
      state.ready = true
    }
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    state.stderr += chunk.toString()
  })
  child.on('exit', (code, signal) => {
    state.code = signal ? -1 : (code ?? -1)
  })
  t.after(() => void child.kill('SIGKILL'))
  return state
}

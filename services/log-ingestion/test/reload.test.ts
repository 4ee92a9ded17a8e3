import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startProcess } from './process.ts'
import { entry } from './start.ts'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-reload-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** One connection, used again and again, and told when it is lost. */
function keptConnection(t: TestContext, url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  const sockets = new Set<object>()
  const send = (key: string, path = '/api/v1/logs', body = JSON.stringify({ log: entry() })) =>
    new Promise<{ status: number; headers: Record<string, unknown>; body: string }>((resolve, reject) => {
      const sent = request(url + path, { agent, method: 'POST', headers: { 'x-api-key': key } }, response => {
        let text = ''
        response.setEncoding('utf8').on('data', part => {
          text += part
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }))
      })
      sent.on('socket', socket => sockets.add(socket))
      sent.on('error', reject)
      sent.end(body)
    })
  return { send, connections: () => sockets.size }
}

test('G32: HUP applies keys, limits, batch, retention, redaction, CORS and log level from YAML and env file without dropping a connection, names what needs a restart, and an invalid file changes nothing', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const dir = await folder(t)
  const envFile = join(dir, 'env.conf')
  const yaml = join(dir, 'config.yaml')
  const writeEnv = (lines: string[]) => writeFile(envFile, `# of the unit\n${lines.join('\n')}\n`)
  await writeEnv(['LOG_INGESTION_API_KEYS=key-one,key-two', 'LOG_INGESTION_ADMIN_API_KEYS=admin'])
  await writeFile(yaml, 'ratelimit:\n  default_rps: 50\n  burst: 60\nbatch:\n  size: 10\n')
  const child = startProcess(t, {
    cwd: dir,
    env: {
      LOG_INGESTION_ENV_FILE: envFile,
      // systemd hands the file's content over as environment as well.
      LOG_INGESTION_ADMIN_API_KEYS: 'admin',
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: join(dir, 'data'),
      LOG_INGESTION_DATABASE_URL: databaseUrl,
      LOG_INGESTION_SELF_LOGS: 'false',
    },
  })
  const url = await child.url
  const { send, connections } = keptConnection(t, url)
  const first = await send('key-one')
  assert.deepEqual([first.status, first.headers['x-ratelimit-limit']], [202, '50'])
  const config = async (key = 'admin') => {
    const health = await fetch(`${url}/admin/health`, { headers: { 'x-api-key': key } })
    return ((await health.json()) as { config?: object }).config
  }
  assert.deepEqual(await config(), {
    batch_size: 10,
    batch_flush_interval: '5s',
    rate_limit_enabled: true,
    rate_limit_rps: 50,
  })
  const reloads = () =>
    child.lines.filter(
      line => /^configuration reloaded|running configuration stays/.test(line.msg) || /stays\.$/.test(line.msg),
    ).length
  const hup = async () => {
    const before = reloads()
    child.process.kill('SIGHUP')
    await pollUntil(() => reloads() > before, { what: 'the reload', everyMs: 20 })
  }

  /** What retention, redaction and CORS make of the same three questions. */
  const effects = async () => {
    const old = JSON.stringify({ time: new Date(Date.now() - 3 * 86_400_000).toISOString(), msg: 'old' })
    const { accepted } = JSON.parse((await send('key-two', '/api/v1/logs/ndjson', old)).body) as { accepted: number }
    const sample = JSON.stringify({ message: 'to ann@shop.example', metadata: { pin: '4711' } })
    const headers = { 'x-api-key': 'admin', 'content-type': 'application/json' }
    const preview = await fetch(`${url}/api/v1/redaction/preview`, { method: 'POST', headers, body: sample })
    const shown = await preview.text()
    const origin = { origin: 'https://ui.example', 'x-api-key': 'admin' }
    const cors = (await fetch(`${url}/api/v1/searches`, { headers: origin })).headers.get('access-control-allow-origin')
    return [accepted, /4711/.test(shown), /ann@/.test(shown), cors]
  }
  assert.deepEqual(await effects(), [1, true, true, null])

  // A rotation as the guide has it: the old key goes, a new one comes; the limit moves; the port waits for a restart.
  await writeEnv([
    'LOG_INGESTION_API_KEYS=key-two,key-three',
    'LOG_INGESTION_ADMIN_API_KEYS=admin',
    'LOG_INGESTION_RETENTION=2d',
    'LOG_INGESTION_REDACT_KEYS=pin',
    'LOG_INGESTION_REDACT_PATTERNS=email',
    'LOG_INGESTION_CORS_ORIGINS=https://ui.example',
  ])
  await writeFile(
    yaml,
    'server:\n  read_timeout: 20s\nratelimit:\n  default_rps: 70\nbatch:\n  size: 20\n  flush_interval: 2s\n',
  )
  await hup()
  assert.equal((await send('key-one')).status, 401)
  assert.equal((await send('key-two')).status, 202)
  assert.equal((await send('key-three')).headers['x-ratelimit-limit'], '70')
  assert.deepEqual(await config(), {
    batch_size: 20,
    batch_flush_interval: '2s',
    rate_limit_enabled: true,
    rate_limit_rps: 70,
  })
  const named = await child.said(/apply after a restart/)
  assert.deepEqual(named.settings, ['LOG_INGESTION_SERVER_READ_TIMEOUT'])
  assert.deepEqual(await effects(), [0, false, false, 'https://ui.example'])

  // A file that is wrong in one place changes nothing in another.
  await writeEnv(['LOG_INGESTION_API_KEYS=key-four', 'LOG_INGESTION_BATCH_FLUSH_INTERVAL=5'])
  await hup()
  const refusal = child.lines.find(line => /running configuration stays/.test(line.msg))
  assert.match(refusal?.msg ?? '', /BATCH_FLUSH_INTERVAL .*did you mean "5s"/)
  assert.equal((await send('key-four')).status, 401)
  assert.equal((await send('key-two')).status, 202)
  const metrics = async () => await (await fetch(`${url}/metrics`)).text()
  assert.match(await metrics(), /^log_ingestion_config_reload_success 0$/m)

  // A line deleted from the file is gone, although systemd's copy of it is still in the environment.
  await writeEnv(['LOG_INGESTION_API_KEYS=key-two', 'LOG_INGESTION_LOG_LEVEL=error'])
  child.process.kill('SIGHUP')
  await pollUntil(async () => /^log_ingestion_config_reload_success 1$/m.test(await metrics()), { what: 'the reload' })
  assert.equal(await config(), undefined, 'the admin key was deleted')
  assert.equal((await send('key-two')).status, 202)
  assert.equal(connections(), 1, 'all of it on one connection')
  const before = child.lines.length
  child.process.kill('SIGTERM')
  assert.equal(await child.exited, 0)
  assert.deepEqual(child.lines.slice(before), [], 'level error applies: not a word about stopping')
})

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import https from 'node:https'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import tls from 'node:tls'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '#platform/config'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { spec } from '../config.ts'
import { start } from '../service.ts'
import { startSpiffeTls } from '../tls/spiffe.ts'
import { temporaryFolder, testEnv } from './kit.ts'
import { createAuthority, type Issued, serialOf, startWorkloadApi } from './workload-api.ts'

async function startTls(t: TestContext, env: Record<string, string>) {
  const where = { databaseUrl: (await testDatabase(t)).url, dataDir: temporaryFolder(t) }
  const loaded = loadConfig(spec, { env: { ...testEnv(where), ...env } })
  if (!loaded.ok) assert.fail(JSON.stringify(loaded.problems))
  const running = await start(loaded.config, testBase(t))
  t.after(() => running.close())
  return { ...running, config: loaded.config, ...where, port: Number(new URL(running.url).port) }
}

/** One handshake: the server's certificate and protocol, or why there is none. */
async function shake(port: number, o: tls.ConnectionOptions = {}) {
  const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...o })
  try {
    await once(socket, 'secureConnect')
    const serial = socket.getPeerX509Certificate()?.serialNumber
    const protocol = socket.getProtocol()
    // A refused client learns of it with its first read.
    socket.write('GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    const [answer] = await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => [undefined])])
    return { serial, protocol, isServed: answer !== undefined }
  } catch (error) {
    return { serial: undefined, protocol: undefined, isServed: false, error }
  } finally {
    socket.destroy()
  }
}

test('TLS_MODE=file serves TLS 1.3 only, demands client certificates with a CA file, and takes new files on reload', async t => {
  const [authority, strangers] = [createAuthority(t, 'one.test'), createAuthority(t, 'two.test')]
  const dir = temporaryFolder(t)
  const file = (name: string) => join(dir, name)
  const install = ({ cert, key }: Issued) => {
    writeFileSync(file('cert.pem'), cert)
    writeFileSync(file('key.pem'), key)
  }
  const [first, second] = [authority.issue('/billaged'), authority.issue('/billaged')]
  install(first)
  writeFileSync(file('ca.pem'), authority.bundle)
  const env = {
    BILLAGED_TLS_MODE: 'file',
    BILLAGED_TLS_CERT_FILE: file('cert.pem'),
    BILLAGED_TLS_KEY_FILE: file('key.pem'),
    BILLAGED_TLS_CA_FILE: file('ca.pem'),
  }
  const billing = await startTls(t, env)
  assert.match(billing.url, /^https:/)
  const client = authority.issue('/metald')
  assert.deepEqual(await shake(billing.port, client), {
    serial: serialOf(first.cert),
    protocol: 'TLSv1.3',
    isServed: true,
  })
  assert.equal((await shake(billing.port)).isServed, false)
  assert.equal((await shake(billing.port, strangers.issue('/metald'))).isServed, false)
  assert.equal((await shake(billing.port, { ...client, maxVersion: 'TLSv1.2' })).isServed, false)
  install(second)
  assert.equal((await shake(billing.port, client)).serial, serialOf(first.cert))
  await billing.reload?.(billing.config)
  assert.equal((await shake(billing.port, client)).serial, serialOf(second.cert))

  // A missing file is a failure of the start, never plain HTTP.
  await assert.rejects(startTls(t, { ...env, BILLAGED_TLS_KEY_FILE: file('none.pem') }), /none\.pem cannot be read/)
  const loaded = loadConfig(spec, { env: { ...testEnv(billing), BILLAGED_TLS_ENABLED: 'true' } })
  assert.ok(!loaded.ok && loaded.problems.some(({ problem }) => /plain HTTP/.test(problem)))
})

test('TLS_MODE=spiffe serves with the identity the agent gives, follows its rotation, and takes clients of its trust domain only', async t => {
  const [ours, theirs] = [createAuthority(t, 'prod.test'), createAuthority(t, 'other.test')]
  const agent = await startWorkloadApi(t)
  const [first, second, third] = [ours.issue('/billaged'), ours.issue('/billaged'), ours.issue('/billaged')]
  agent.give(first)
  const env = { BILLAGED_TLS_MODE: 'spiffe', BILLAGED_SPIFFE_SOCKET: `unix://${agent.socketPath}` }
  const billing = await startTls(t, env)
  const client = ours.issue('/metald')
  assert.deepEqual(await shake(billing.port, client), {
    serial: serialOf(first.cert),
    protocol: 'TLSv1.3',
    isServed: true,
  })
  // Nobody, another domain, and one that our authority signed under another domain's name.
  assert.equal((await shake(billing.port)).isServed, false)
  assert.equal((await shake(billing.port, theirs.issue('/metald'))).isServed, false)
  assert.equal((await shake(billing.port, ours.issue('/metald', 'spiffe://other.test/metald'))).isServed, false)
  assert.equal((await shake(billing.port, ours.issue('/metald', 'https://prod.test/metald'))).isServed, false)

  const servedBy = (svid: Issued) =>
    pollUntil(async () => (await shake(billing.port, client)).serial === serialOf(svid.cert), {
      what: 'the new identity',
    })
  agent.give(second)
  await servedBy(second)
  // The agent goes away and comes back: the last identity serves meanwhile, the next one is found.
  const before = agent.asked()
  agent.hangUp()
  assert.equal((await shake(billing.port, client)).isServed, true)
  await pollUntil(() => agent.asked() > before, { what: 'another question to the agent' })
  agent.give(third)
  await servedBy(third)

  // A client keeps its connection and comes back with a session of before.
  const keepAlive = new https.Agent({ keepAlive: false, maxCachedSessions: 10, ...client, rejectUnauthorized: false })
  t.after(() => keepAlive.destroy())
  const health = () =>
    new Promise<string>((resolve, reject) => {
      https
        .get(`${billing.url}/health`, { agent: keepAlive }, response => {
          let text = ''
          response.on('data', chunk => (text += chunk))
          response.on('end', () => resolve(text))
        })
        .on('error', reject)
    })
  await health()
  assert.match(await health(), /"tls":\{"status":"ok","detail":"spiffe:\/\/prod.test\/billaged until /)

  // The command line gets an identity of its own from the same agent, and knows the server by its domain.
  const cli = fileURLToPath(new URL('../cli.ts', import.meta.url))
  const run = async (socket: string) => {
    const args = ['--disable-warning=ExperimentalWarning', cli, 'heartbeat', '-server', `127.0.0.1:${billing.port}`]
    const child = spawn(process.execPath, [...args, '-tls-mode', 'spiffe', '-spiffe-socket', socket], { stdio: 'pipe' })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (text += chunk))
    const [code] = await once(child, 'close')
    return { code, text }
  }
  assert.deepEqual(await run(agent.socketPath), {
    code: 0,
    text: 'Heartbeat sent:\n  Success: true\n  Active VMs: 3\n',
  })
  const other = await startWorkloadApi(t)
  other.give(theirs.issue('/cli'))
  assert.equal((await run(other.socketPath)).code, 1)
})

test('TLS_MODE=spiffe without a socket, or without an identity, is a failure of the start that says so', async t => {
  const dir = temporaryFolder(t)
  const none = { BILLAGED_TLS_MODE: 'spiffe', BILLAGED_SPIFFE_SOCKET: join(dir, 'none.sock') }
  await assert.rejects(startTls(t, none), /no Workload API socket at .*none\.sock.*BILLAGED_SPIFFE_SOCKET/)
  const agent = await startWorkloadApi(t)
  await assert.rejects(
    startSpiffeTls(agent.socketPath, testBase(t), 300),
    /no X\.509-SVID .*the agent has no identity for this process \(no identity issued\)/,
  )
})

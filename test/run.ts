// `npm test`: the whole truth. Types, lint, then every test against real parts.
//
//   npm test                      everything
//   npm test -- services/billaged only the test files below that path, without types and lint
//
// PURSER_TEST_CONCURRENCY=6 runs so many files at once: a machine under load, to find what depends on an idle one.

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { startTestServer } from './kit/database.ts'
import { summarise } from './kit/summary.ts'

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
      check('types', bin('tsc'), ['-p', 'tsconfig.json']),
      check('types of the console', bin('tsc'), ['-p', 'console/tsconfig.json']),
      check('lint', bin('biome'), ['check', '--error-on-warnings', '.']),
      check('console build', process.execPath, [
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

function check(what: string, command: string, args: readonly string[]): Promise<number> {
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

async function runTests(files: readonly string[], databaseUrl: string): Promise<number> {
  process.env.PURSER_TEST_DATABASE_URL = databaseUrl
  process.env.PATH = `${dirname(bin('node'))}:${process.env.PATH ?? ''}`
  // Hundreds of processes load the same modules.
  process.env.NODE_COMPILE_CACHE ??= join(root, 'node_modules/.cache/compile')
  // This runner may be started by another test runner (npm test inside a test); its context must not leak.
  delete process.env.NODE_TEST_CONTEXT
  const stopped = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopped.abort())
  const stream = run({
    files: inOrder(files),
    concurrency: Number(process.env.PURSER_TEST_CONCURRENCY ?? availableParallelism() + 1),
    timeout: testTimeoutMs,
    signal: stopped.signal,
  })
  const summary = summarise(stream)
  for await (const text of stream.compose(spec)) process.stdout.write(text)
  process.stdout.write(summary.text())
  return summary.isSuccess ? 0 : 1
}

/** Files that start services first and whole platforms spread among them, so that the run does not end with one long file
 *  and an idle machine. */
function inOrder(files: readonly string[]): string[] {
  const isIn = (folder: RegExp) => (file: string) => folder.test(file)
  const platforms = files.filter(isIn(/^test\/end-to-end\//))
  const services = files.filter(isIn(/^services\/[^/]+\/test\//))
  const others = files.filter(file => !platforms.includes(file) && !services.includes(file))
  const stride = Math.ceil(services.length / (platforms.length + 1))
  const spread = platforms.flatMap((file, i) => [...services.slice(i * stride, (i + 1) * stride), file])
  return [...spread, ...services.slice(platforms.length * stride), ...others]
}

process.exit(await main(process.argv.slice(2)))

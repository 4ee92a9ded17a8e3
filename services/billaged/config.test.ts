import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '#platform/config'
import { spec } from './config.ts'

const load = (env: Record<string, string>) => loadConfig(spec, { env })
const problems = (env: Record<string, string>) => {
  const loaded = load(env)
  return loaded.ok ? [] : loaded.problems.map(problem => `${problem.name} ${problem.problem}`)
}

test('both prefixes are read, the longer one wins and a differing pair is told', () => {
  const one = load({ BILLAGED_PORT: '9000' })
  assert.equal(one.ok && one.config.port, 9000)
  const both = load({ BILLAGED_PORT: '9000', UNKEY_BILLAGED_PORT: '9001' })
  assert.equal(both.ok && both.config.port, 9001)
  assert.match(both.ok ? both.config.warnings.join() : '', /UNKEY_BILLAGED_PORT and BILLAGED_PORT/)
  for (const yes of ['1', 't', 'T', 'true', 'TRUE', 'True']) {
    const loaded = load({ BILLAGED_OTEL_ENABLED: yes })
    assert.equal(loaded.ok && loaded.config.isOtelEnabled, true, yes)
  }
  // What the command line reads may stand in the same environment file.
  assert.deepEqual(problems({ UNKEY_BILLAGED_SERVER_ADDRESS: 'x:1', BILLAGED_TENANT_ID: 'acme' }), [])
})

test('every problem is told at once, misspelt names with a suggestion', () => {
  const told = problems({ BILLAGED_PORT: 'eighty', UNKEY_BILLAGED_MAX_FUTUR: '5m', BILLAGED_OTEL_SAMPLING_RATE: '2' })
  assert.equal(told.length, 3)
  assert.match(told.join('\n'), /did you mean UNKEY_BILLAGED_MAX_FUTURE\?/)
})

test('a setting whose promise is not kept yet is refused, never ignored', () => {
  for (const [name, value] of [
    ['BILLAGED_TLS_MODE', 'file'],
    ['BILLAGED_STRIPE_API_BASE', 'http://127.0.0.1:12111'],
    ['BILLAGED_STRIPE_MODE', 'meters'],
    ['BILLAGED_WEBHOOK_DENY', 'everywhere'],
    ['BILLAGED_AGGREGATION_INTERVAL', '0s'],
    ['BILLAGED_MAX_GAP_CAP', '1m'],
  ] as const)
    assert.deepEqual(
      problems({ [name]: value }).map(problem => problem.split(' ')[0]),
      [name],
    )
})

test('the launcher works through links; -version has three lines, a bad setting exits 1 before anything is touched', t => {
  const dir = mkdtempSync(join(tmpdir(), 'purser-billaged-bin-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const link = join(dir, 'billaged')
  symlinkSync(fileURLToPath(new URL('../../bin/billaged', import.meta.url)), link)
  const run = (args: string[], env: Record<string, string> = {}) =>
    spawnSync(link, args, {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, PURSER_DATA_DIR: dir, ...env },
      encoding: 'utf8',
    })
  const version = run(['-version'])
  assert.equal(version.status, 0)
  assert.match(version.stdout, /^billaged.*\nVersion: .+\nBuilt with: Node v.+\n$/)
  const bad = run(['--validate-config'], { BILLAGED_PORT: 'eighty' })
  assert.equal(bad.status, 1)
  assert.match(bad.stderr, /BILLAGED_PORT/)
})

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  bool,
  bytes,
  configReference,
  count,
  defineConfig,
  duration,
  formatProblems,
  list,
  loadConfig,
  nearest,
  oneOf,
  port,
  printConfig,
  secret,
  setting,
  url,
} from './config.ts'

const spec = defineConfig({
  service: 'shop',
  prefixes: ['UNKEY_SHOP_', 'SHOP_'],
  file: { format: 'yaml' },
  settings: {
    port: setting(port, { env: 'PORT', yaml: 'server.port', default: '8080', doc: 'TCP port.' }),
    batchSize: setting(count.between(1, 50_000), {
      env: 'BATCH_SIZE',
      yaml: 'batch.size',
      default: '1000',
      doc: 'Most rows.',
    }),
    flush: setting(duration.positive, { env: 'FLUSH', yaml: 'batch.flush', default: '5s', doc: 'Longest wait.' }),
    body: setting(bytes, { env: ['BODY_MAX', 'BODY'], default: '32MiB', doc: 'Largest body.' }),
    isOpen: setting(bool, { env: 'OPEN', default: 'false', doc: 'Open.' }),
    mode: setting(oneOf('whole', 'entry'), { env: 'MODE', default: 'whole', doc: 'Mode.' }),
    database: setting(url, { env: 'DATABASE_URL', bare: ['DATABASE_URL'], doc: 'Database.' }),
    apiKeys: setting(list, { env: 'KEYS', yaml: 'auth.keys', default: '', doc: 'Keys.' }),
    adminKey: setting(secret, { env: 'ADMIN_KEY', doc: 'Admin key.' }),
  },
  check: values =>
    values.batchSize > 10 && values.isOpen
      ? [{ name: 'SHOP_OPEN', problem: 'cannot be open with batches over 10' }]
      : [],
})

const load = (env: Record<string, string>, yaml?: string) =>
  loadConfig(spec, { env, ...(yaml === undefined ? {} : { file: { path: 'shop.yaml', text: yaml } }) })

function problemsOf(env: Record<string, string>, yaml?: string): string {
  const loaded = load(env, yaml)
  return loaded.ok ? '' : formatProblems('shop', loaded.problems)
}

function configOf(env: Record<string, string>, yaml?: string) {
  const loaded = load(env, yaml)
  if (!loaded.ok) throw new Error(formatProblems('shop', loaded.problems))
  return loaded.config
}

test('values come from the first prefix, the second, the bare name, the file, the default, in this order', () => {
  assert.equal(configOf({}).port, 8080)
  assert.equal(configOf({}, 'server: { port: 1 }').port, 1)
  assert.equal(configOf({ SHOP_PORT: '2' }, 'server: { port: 1 }').port, 2)
  assert.equal(configOf({ SHOP_PORT: '2', UNKEY_SHOP_PORT: '3' }).port, 3)
  assert.equal(configOf({ DATABASE_URL: 'postgres://a/b' }).database, 'postgres://a/b')
  assert.equal(
    configOf({ DATABASE_URL: 'postgres://a/b', SHOP_DATABASE_URL: 'postgres://c/d' }).database,
    'postgres://c/d',
  )
  const { config } = loadConfig(spec, { env: { SHOP_PORT: '2' }, envFileText: '# c\nexport SHOP_PORT="4"\n' }) as {
    config: { port: number }
  }
  assert.equal(config.port, 4)
})

test('two names of one setting that differ are used in order and warned about', () => {
  assert.match(
    configOf({ SHOP_PORT: '2', UNKEY_SHOP_PORT: '3' }).warnings.join(),
    /UNKEY_SHOP_PORT and SHOP_PORT are both set and differ; UNKEY_SHOP_PORT is used/,
  )
  assert.deepEqual(configOf({ SHOP_PORT: '3', UNKEY_SHOP_PORT: '3' }).warnings, [])
})

test('all problems come in one report, each with name, value and mend', () => {
  const report = problemsOf({
    SHOP_PORT: '70000',
    SHOP_FLUSH: '5',
    SHOP_OPEN: 'maybe',
    SHOP_MODE: 'entri',
    SHOP_BATCHSIZE: '5',
    SHOP_BODY: '1.3k',
  })
  assert.match(report, /6 problems/)
  assert.match(report, /SHOP_PORT must be from 0 to 65535 \(got "70000"\)/)
  assert.match(report, /SHOP_FLUSH "5" has no unit.*did you mean "5s"\?.*\(got "5"\)/)
  assert.match(report, /SHOP_OPEN must be true or false \(got "maybe"\)/)
  assert.match(report, /SHOP_MODE must be one of whole, entry; did you mean entry\?/)
  assert.match(report, /SHOP_BATCHSIZE is not a setting of shop; did you mean SHOP_BATCH_SIZE\?/)
  assert.match(report, /SHOP_BODY must come to whole bytes/)
})

test('rules across settings run once every setting is right by itself', () => {
  assert.match(problemsOf({ SHOP_OPEN: '1' }), /cannot be open with batches over 10/)
  assert.doesNotMatch(problemsOf({ SHOP_OPEN: '1', SHOP_PORT: 'x' }), /cannot be open/)
})

test('YAML problems carry line and column, unknown keys a suggestion, duplicates are refused', () => {
  assert.match(problemsOf({}, 'server:\n  port: 1\n  port: 2\n'), /shop\.yaml:3:3 .*unique/)
  assert.match(
    problemsOf({}, 'batch: { sise: 5 }'),
    /shop\.yaml: batch\.sise is not a known key; did you mean batch\.size\?/,
  )
  assert.match(problemsOf({}, 'server: { port: [1, 2] }'), /server\.port takes one value, not a list/)
  assert.deepEqual(configOf({}, 'auth: { keys: [a, " b "] }').apiKeys, ['a', 'b'])
  const bomb = `a: &a [x, x]\nb: &b [*a, *a]\n${'c'.repeat(3)}: [${'*b, '.repeat(200)}]\n`
  assert.throws(() => configOf({}, bomb))
})

test('a secret is shown nowhere, and may come from a file', t => {
  const dir = mkdtempSync(join(tmpdir(), 'config-'))
  t.after(() => rmSync(dir, { recursive: true }))
  writeFileSync(join(dir, 'key'), 'hunter2\n')
  const loaded = load({ SHOP_ADMIN_KEY_FILE: join(dir, 'key'), DATABASE_URL: 'postgres://u:hunter3@h/db' })
  assert.ok(loaded.ok)
  assert.equal(loaded.config.adminKey, 'hunter2')
  assert.doesNotMatch(printConfig(spec, loaded), /hunter/)
  assert.match(printConfig(spec, loaded), /ADMIN_KEY=\*\*\* {2}# SHOP_ADMIN_KEY_FILE/)
  assert.match(problemsOf({ SHOP_ADMIN_KEY_FILE: join(dir, 'none') }), /SHOP_ADMIN_KEY_FILE cannot be read/)
  assert.doesNotMatch(problemsOf({ DATABASE_URL: 'x:hunter3@' }), /is not a setting/)
})

test('an empty variable means "not set", and prefixes of other programs are left alone', () => {
  assert.equal(configOf({ SHOP_PORT: '', SHOPPING: '1' }).port, 8080)
})

test('types refuse what JavaScript would coerce', () => {
  for (const value of ['', ' ', 'NaN', '1e3', '0x10', '1.5', 'Infinity', '−5'])
    assert.throws(() => count.parse(value), Error, value)
  assert.equal(bool.parse('false'), false)
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 31 }),
      n => count.parse(String(n)) === n && bytes.parse(String(n)) === n,
    ),
  )
  assert.deepEqual(
    ['64MiB', '100GB', '4k', '1.5KiB'].map(v => bytes.parse(v)),
    [64 * 2 ** 20, 1e11, 4096, 1536],
  )
})

test('suggestions are near misses only', () => {
  assert.equal(nearest('BATCH_SIZ', ['BATCH_SIZE', 'PORT']), 'BATCH_SIZE')
  assert.equal(nearest('SOMETHING_ELSE', ['BATCH_SIZE', 'PORT']), undefined)
})

test('the reference lists every name, default and meaning', () => {
  const table = configReference(spec)
  assert.match(
    table,
    /\| `UNKEY_SHOP_PORT`<br>`SHOP_PORT`<br>`server\.port` \(YAML\) \| `8080` \| port 0…65535 \| TCP port\. \|/,
  )
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig, printConfig } from '#platform/config'
import { databaseUrlOf, spec } from './config.ts'

const yaml = (text: string) => ({ path: 'config.yaml', text })

function problems(o: Parameters<typeof loadConfig>[1]): string[] {
  const loaded = loadConfig(spec, o)
  return loaded.ok ? [] : loaded.problems.map(({ name, problem }) => `${name} ${problem}`)
}

function config(o: Parameters<typeof loadConfig>[1]) {
  const loaded = loadConfig(spec, o)
  assert.ok(loaded.ok, JSON.stringify(loaded))
  return loaded.config
}

test('the env file wins over the environment, that over the short names of compose, those over YAML, that over the default', () => {
  const file = yaml('batch:\n  size: 5')
  const env = { LOG_INGESTION_BATCH_SIZE: '3', BATCH_SIZE: '4' }
  const rows = (o: Parameters<typeof loadConfig>[1]) => config(o).batchRows
  assert.equal(rows({ env, file, envFileText: 'LOG_INGESTION_BATCH_SIZE=2\n' }), 2)
  assert.equal(rows({ env, file }), 3)
  assert.equal(rows({ env: { BATCH_SIZE: '4' }, file }), 4)
  assert.equal(rows({ env: {}, file }), 5)
  assert.equal(rows({ env: {} }), 1_000)
  // The published port of compose: inside the container it is always 8080.
  assert.equal(config({ env: { SERVER_PORT: '9999' } }).serverPort, 8_080)
})

test('G29: configuration errors are told all together, each with its name, what is wrong and what to write', () => {
  const found = problems({
    env: {
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: '5',
      LOG_INGESTION_SERVER_READ_TIMEOUT: '0s',
      LOG_INGESTION_BATCH_SIZE: '50001',
      LOG_INGESTION_DB_SSLMODE: 'on',
      LOG_INGESTION_RATELIMIT_RPS: '5',
    },
    file: yaml('server:\n  prot: 8080\nauth:\n  api_key: x'),
  })
  for (const expected of [
    /^LOG_INGESTION_BATCH_FLUSH_INTERVAL .*did you mean "5s"\?/,
    /^LOG_INGESTION_SERVER_READ_TIMEOUT must be at least/,
    /^LOG_INGESTION_BATCH_SIZE must be from 1 to 50000/,
    /^LOG_INGESTION_DB_SSLMODE must be .*verify-full/,
    /^LOG_INGESTION_RATELIMIT_RPS is not a setting of log-ingestion; did you mean LOG_INGESTION_RATELIMIT_\w+\?/,
    /^config.yaml: server.prot is not a known key; did you mean server.port\?/,
    /^config.yaml: auth.api_key is not a known key; did you mean auth.api_keys\?/,
  ])
    assert.ok(
      found.some(line => expected.test(line)),
      `${expected} in\n${found.join('\n')}`,
    )
})

test('no database named: embedded; one DB_* named: the guide’s defaults for the others; values are values, whatever is in them', () => {
  assert.equal(databaseUrlOf(config({ env: {} })), undefined)
  assert.equal(databaseUrlOf(config({ env: { PURSER_DATABASE_URL: 'postgres://h/d' } })), 'postgres://h/d')
  assert.equal(
    databaseUrlOf(config({ env: { LOG_INGESTION_DB_NAME: 'mine' } })),
    'postgres://postgres:postgres@/mine?host=localhost&port=5432&sslmode=disable',
  )
  const password = `p@ss/w:rd with 'quotes' & 100% "more"`
  const url = databaseUrlOf(config({ env: { DB_HOST: 'db', DB_PASSWORD: password } })) ?? ''
  assert.equal(decodeURIComponent(/\/\/[^:]*:([^@]*)@/.exec(url)?.[1] ?? ''), password)
})

test('keys: trimmed, empties skipped; a key inside an app does not administer', () => {
  const { apiKeys, adminApiKeys } = config({ env: { LOG_INGESTION_API_KEYS: ' key1, ,key2,,key3 ' } })
  assert.deepEqual([apiKeys, adminApiKeys], [['key1', 'key2', 'key3'], []])
})

test('the published default secret is refused, and no secret is printed', () => {
  assert.match(
    problems({ env: { LOG_INGESTION_JWT_SECRET: 'dev-secret-change-me-in-production' } }).join(),
    /JWT_SECRET is the published default/,
  )
  assert.match(problems({ env: { LOG_INGESTION_JWT_SECRET: 'short' } }).join(), /at least 16 bytes/)
  const loaded = loadConfig(spec, {
    env: {
      LOG_INGESTION_JWT_SECRET: 'a long secret of somebody',
      LOG_INGESTION_API_KEYS: 'visible-key',
      DB_PASSWORD: 'visible-pw',
    },
  })
  assert.ok(loaded.ok)
  assert.doesNotMatch(printConfig(spec, loaded), /somebody|visible/)
})

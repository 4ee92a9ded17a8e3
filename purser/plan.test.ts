import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type PlanInput, planServices, type ServiceName, serviceNames } from './plan.ts'

const plan = (o: Partial<PlanInput> = {}) =>
  planServices({
    only: serviceNames,
    portOffset: 0,
    dataDir: '/data',
    databaseUrl: 'postgres://u:p@h/db',
    env: {},
    ...o,
  })
const serviceOf = (name: ServiceName, o: Partial<PlanInput> = {}) => {
  const found = plan(o).find(service => service.name === name)
  assert.ok(found)
  return found
}

test('every service gets the ports of its guide, all shifted by the offset, except those the user chose', () => {
  const portsOf = (o: Partial<PlanInput>) => Object.fromEntries(plan(o).map(s => [s.name, s.ports.map(p => p.port)]))
  assert.deepEqual(portsOf({}), {
    'log-ingestion': [8080],
    billaged: [8081, 9465],
    budgetguard: [3000],
    builderd: [8082, 9090],
    'metrics-collector': [9100],
  })
  assert.deepEqual(
    portsOf({ portOffset: 100, env: { BILLAGED_PORT: '5000', METRICS_COLLECTOR_HEALTH__LISTEN_ADDR: '0.0.0.0:9' } }),
    {
      'log-ingestion': [8180],
      billaged: [5000, 9565],
      budgetguard: [3100],
      builderd: [8182, 9190],
      'metrics-collector': [9],
    },
  )
})

test('a service sees its own variables and the way to the others, never another one’s secrets', () => {
  const env = {
    PATH: '/bin',
    OPENAI_KEY: 'sk-1',
    BUDGETGUARD_OPENAI_KEY: 'sk-2',
    DATABASE_URL: 'postgres://someone/else',
    PORT: '1',
    LOG_INGESTION_API_KEYS: 'a',
    UNKEY_BILLAGED_API_KEY: 'b',
    AWS_SECRET_ACCESS_KEY: 'c',
  }
  const envOf = (name: ServiceName) => serviceOf(name, { env }).env
  assert.equal(envOf('budgetguard').BUDGETGUARD_OPENAI_KEY, 'sk-2')
  assert.equal(envOf('budgetguard').PURSER_LOGS_URL, 'http://127.0.0.1:8080')
  assert.equal(envOf('log-ingestion').LOG_INGESTION_API_KEYS, 'a')
  assert.equal(envOf('billaged').UNKEY_BILLAGED_API_KEY, 'b')
  for (const name of serviceNames) {
    const seen = envOf(name)
    assert.equal(seen.PATH, '/bin')
    for (const foreign of ['AWS_SECRET_ACCESS_KEY', 'DATABASE_URL', 'PORT', 'OPENAI_KEY'])
      assert.equal(seen[foreign], undefined, `${name} sees ${foreign}`)
    if (name !== 'budgetguard') assert.doesNotMatch(JSON.stringify(seen), /sk-/)
    if (name !== 'log-ingestion') assert.equal(seen.LOG_INGESTION_API_KEYS, undefined)
  }
})

test('a bare name is translated to the prefixed one, which wins when both are there', () => {
  assert.equal(serviceOf('budgetguard', { env: { OPENAI_KEY: 'sk-1' } }).env.BUDGETGUARD_OPENAI_KEY, 'sk-1')
})

test('log-ingestion commits every second on our database, unless the user says otherwise under any of its names', () => {
  const flushOf = (env: Record<string, string>) => {
    const names = Object.entries(serviceOf('log-ingestion', { env }).env)
    return Object.fromEntries(names.filter(([name]) => name.includes('FLUSH')))
  }
  assert.deepEqual(flushOf({}), { LOG_INGESTION_BATCH_FLUSH_INTERVAL: '1s' })
  for (const name of ['LOG_INGESTION_BATCH_FLUSH_INTERVAL', 'UNKEY_LOG_INGESTION_BATCH_FLUSH_INTERVAL'])
    assert.deepEqual(flushOf({ [name]: '5s' }), { [name]: '5s' })
})

test('the collector gets no database and no secret of the platform beyond the token key', () => {
  const { env } = serviceOf('metrics-collector')
  assert.equal(env.PURSER_DATABASE_URL, undefined)
  assert.equal(env.METRICS_COLLECTOR_CONFIG, '/data/metrics-collector/config.yaml')
})

test('a subset knows only the addresses of what runs', () => {
  const [only] = plan({ only: ['log-ingestion'] })
  assert.equal(plan({ only: ['log-ingestion'] }).length, 1)
  assert.equal(only?.env.PURSER_BILLAGED_URL, undefined)
})

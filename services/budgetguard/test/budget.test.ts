// The cap, from outside: floods, streams, replicas, and what a refusal says.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatUsd, parseUsd } from '#platform/money'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { sum } from '../amount.ts'
import {
  auditBooks,
  errorOf,
  makeTenant,
  monthly,
  rowsOf,
  setBudget,
  startService,
  type TestService,
  type TestTenant,
} from './kit.ts'

/** So long that all calls have asked before the first is paid for and leaves something over, on a loaded machine too. */
const slow = { 'x-echo-delay-ms': '4000' }

/** Sets the budget to what is spent plus `holds` holds of the default call; returns one hold. */
async function budgetFor(service: TestService, tenant: TestTenant, holds: bigint): Promise<bigint> {
  const probe = await service.chat(tenant.key)
  assert.equal(probe.status, 200, probe.text)
  const hold = parseUsd(probe.headers.get('x-budgetguard-hold-usd') ?? '')
  const spent = parseUsd(probe.headers.get('x-budgetguard-cost-usd') ?? '')
  await setBudget(service, tenant, formatUsd(spent + hold * holds))
  return hold
}

function count(statuses: readonly number[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const status of statuses) counts[status] = (counts[status] ?? 0) + 1
  return counts
}
test('one process holds what it admits', async t => {
  const service = await startService(t)

  await t.test(
    'a hundred parallel calls at a budget for ten holds: ten pass, ninety are refused, the books agree to the nano-dollar',
    async () => {
      const tenant = await makeTenant(service, 'race', '1')
      await budgetFor(service, tenant, 10n)
      const answers = await Promise.all(Array.from({ length: 100 }, () => service.chat(tenant.key, {}, slow)))
      assert.deepEqual(count(answers.map(answer => answer.status)), { 200: 10, 402: 90 })

      const rows = await rowsOf(service, tenant, 101)
      assert.equal(sum(rows.filter(row => row.status === 'blocked').map(row => BigInt(row.count))), 90n)
      const settled = sum(rows.map(row => BigInt(row.usdNano)))
      const state = await monthly(service, tenant)
      assert.equal(settled, BigInt(state.currentUsageNano))
      assert.equal(state.heldUsd, '0')
      await auditBooks(service)
    },
  )

  await t.test(
    'a budget that pays for one more call to the nano-dollar admits it, and one nano-dollar less does not',
    async () => {
      const tenant = await makeTenant(service, 'exact', '1')
      const hold = await budgetFor(service, tenant, 1n)
      assert.equal((await service.chat(tenant.key)).status, 200)
      const { currentUsageNano } = await monthly(service, tenant)
      await setBudget(service, tenant, formatUsd(BigInt(currentUsageNano) + hold - 1n))
      assert.equal((await service.chat(tenant.key)).status, 402)
      await auditBooks(service)
    },
  )

  await t.test(
    'a 402 says which budget, what is spent and held, what was needed and when it resets, and asks for no retry',
    async () => {
      const tenant = await makeTenant(service, 'refused', '0.000001')
      const answer = await service.chat(tenant.key)
      assert.equal(answer.status, 402)
      assert.equal(answer.headers.get('x-should-retry'), 'false')
      const error = errorOf(answer)
      assert.match(error.message, /^Budget exceeded/)
      assert.deepEqual(
        [error.type, error.code, error.reason],
        ['insufficient_quota', 'budget_exceeded', 'BUDGET_EXCEEDED'],
      )
      assert.equal(error.request_id, answer.headers.get('x-budgetguard-request-id'))
      assert.ok(error.budget)
      const { budgetId, requestedUsd, resetsAt, ...rest } = error.budget
      assert.deepEqual(rest, {
        scope: `tenant ${tenant.slug}`,
        period: 'monthly',
        limitUsd: '0.000001',
        spentUsd: '0',
        heldUsd: '0',
      })
      assert.ok(budgetId > 0 && parseUsd(requestedUsd) > 1_000n && resetsAt?.endsWith('-01T00:00:00.000Z'))
    },
  )

  await t.test('a budget of 0 blocks even a free model', async () => {
    const tenant = await makeTenant(service, 'zero', '0')
    assert.equal((await service.chat(tenant.key, { model: 'echo' })).status, 402)
  })

  await t.test('every budget binds: a daily one refuses what a monthly one would pay for', async () => {
    const tenant = await makeTenant(service, 'two budgets', '10')
    await service.admin('POST', `/admin/tenant/${tenant.id}/budgets`, { period: 'daily', amountUsd: '0.000001' })
    const answer = await service.chat(tenant.key)
    assert.equal(answer.status, 402)
    assert.equal(errorOf(answer).budget?.period, 'daily')
  })

  await t.test('raising a budget admits at once, lowering it refuses at once', async () => {
    const tenant = await makeTenant(service, 'moving', '0.000001')
    assert.equal((await service.chat(tenant.key)).status, 402)
    await setBudget(service, tenant, '1')
    assert.equal((await service.chat(tenant.key)).status, 200)
    await setBudget(service, tenant, '0.000001')
    assert.equal((await service.chat(tenant.key)).status, 402)
  })

  await t.test(
    'a budget made in mid-window starts from what the ledger shows, also from calls still under way',
    async () => {
      const tenant = await makeTenant(service, 'late budget', '10')
      await service.chat(tenant.key)
      await rowsOf(service, tenant, 1)
      let isOver = false
      const running = service.chat(tenant.key, {}, { 'x-echo-delay-ms': '1000' }).finally(() => {
        isOver = true
      })
      // On a loaded machine it may be over before anybody looks: then this says less, and nothing wrong.
      await pollUntil(async () => isOver || (await monthly(service, tenant)).heldUsd !== '0', {
        what: 'the second call to be held',
        everyMs: 10,
      })
      await service.admin('POST', `/admin/tenant/${tenant.id}/budgets`, { period: 'weekly', amountUsd: '5' })
      // Opens the account of the week while the second call is held on the month alone.
      await service.admin('GET', `/admin/tenant/${tenant.id}/budgets`)
      await running
      const rows = await rowsOf(service, tenant, 2)
      await auditBooks(service)
      const [weekly] = await service.sql<{ settled_nano: bigint }[]>`
    select a.settled_nano from budgetguard.accounts a join budgetguard.budgets b on b.id = a.budget_id
    where b.period = 'weekly' and b.tenant_id = ${tenant.id}`
      assert.equal(weekly?.settled_nano, sum(rows.map(row => BigInt(row.usdNano))))
    },
  )

  await t.test(
    'a limit that does not fit is clamped when the caller allows it, and a default limit shrinks unasked',
    async () => {
      const tenant = await makeTenant(service, 'clamped', '0.004')
      const body = { max_tokens: 4_000, messages: [{ role: 'user', content: 'x' }] }
      assert.equal((await service.chat(tenant.key, body)).status, 402)
      const clamped = await service.chat(tenant.key, body, { 'x-budgetguard-clamp': 'allow', 'x-echo-tokens': '4000' })
      assert.equal(clamped.status, 200, clamped.text)
      const match = /^max_tokens=4000->(\d+)$/.exec(clamped.headers.get('x-budgetguard-clamped') ?? '')
      assert.ok(match)
      const usage = clamped.json.usage as { completion_tokens: number }
      assert.equal(usage.completion_tokens, Number(match[1]), 'the provider was given the clamped limit')

      await setBudget(service, tenant, '0.02')
      const shrunk = await service.chat(tenant.key, { max_tokens: undefined })
      assert.equal(shrunk.status, 200, shrunk.text)
      await auditBooks(service)
    },
  )

  await t.test('rates refuse with 429 and a wait, and a call refused for money gives its permit back', async () => {
    const tenant = await makeTenant(service, 'rated', '1')
    await service.admin('PUT', `/admin/tenant/${tenant.id}/ratelimit`, { rateLimitPerMin: 2 })
    await setBudget(service, tenant, '0')
    for (let i = 0; i < 4; i++) assert.equal((await service.chat(tenant.key)).status, 402)
    await setBudget(service, tenant, '1')
    assert.equal((await service.chat(tenant.key)).status, 200)
    assert.equal((await service.chat(tenant.key)).status, 200)
    const refused = await service.chat(tenant.key)
    assert.equal(refused.status, 429)
    assert.match(errorOf(refused).message, /^Rate limit exceeded/)
    assert.equal(errorOf(refused).code, 'rate_limit_exceeded')
    assert.ok(Number(refused.headers.get('retry-after')) > 0)
    assert.equal(refused.headers.get('x-ratelimit-remaining'), '0')
  })
})

test('two processes on one database share a budget without passing it, and between them use all of it', async t => {
  const database = await testDatabase(t)
  const services = [await startService(t, { database }), await startService(t, { database })]
  const [first, second] = services
  assert.ok(first && second)
  const tenant = await makeTenant(first, 'shared', '1')
  await budgetFor(first, tenant, 10n)
  // The other process knows the key and the limit a notification later.
  await second.admin('GET', `/admin/tenant/${tenant.id}/budgets`)
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? first : second).chat(tenant.key, {}, slow)),
  )
  assert.deepEqual(count(answers.map(answer => answer.status)), { 200: 10, 402: 50 })
  for (const service of services) await auditBooks(service)
})

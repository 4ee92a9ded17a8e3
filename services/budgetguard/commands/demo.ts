// budgetguard demo [--race]: a tenant, a key and a call; or a hundred calls at once on a budget that pays for ten.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import type { Base } from '#platform/lifecycle'
import { formatUsd, parseUsd } from '#platform/money'
import { sleep } from '#platform/time'
import type { Budget, BudgetState, CreatedApiKey, Tenant } from '../api.ts'
import type { Config } from '../config.ts'
import { isObject } from '../dialects/openai/chat.ts'
import { readRunFile } from '../store/run-file.ts'

const calls = 100
const paidFor = 10n
/** Every call waits this long at the provider, so that all of them are held at once. */
const slowMs = 2_000
const settleWaitMs = 10_000

export async function demo(args: readonly string[], config: Config, base: Base): Promise<number> {
  const folder = join(config.dataDir, 'budgetguard')
  const url = readRunFile(folder)?.url ?? `http://127.0.0.1:${config.port}`
  const adminKey = config.adminApiKey ?? (await readFile(join(folder, 'admin-key'), 'utf8').catch(() => '')).trim()
  const agent = new Agent({ connections: calls })
  const admin = async <T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> => {
    const response = await request(url + path, {
      method,
      dispatcher: agent,
      headers: { 'x-admin-key': adminKey, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.body.text()
    if (response.statusCode !== 200)
      throw new Error(`${method} ${path} answered ${response.statusCode}: ${text.slice(0, 300)}`)
    return JSON.parse(text) as T
  }
  const call = async (key: string, delayMs: number) => {
    const response = await request(`${url}/v1/chat/completions`, {
      method: 'POST',
      dispatcher: agent,
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        'x-echo-delay-ms': String(delayMs),
      },
      body: JSON.stringify({
        model: 'echo-priced',
        max_tokens: 64,
        messages: [
          { role: 'user', content: 'Reserve, act, settle. A budget that is only checked is already overspent.' },
        ],
      }),
    })
    const text = await response.body.text()
    return { status: response.statusCode, heldUsd: String(response.headers['x-budgetguard-hold-usd'] ?? '0'), text }
  }
  try {
    const tenant = await admin<Tenant>('POST', '/admin/tenant', {
      name: `demo ${new Date(base.clock.now()).toISOString()}`,
      rateLimitPerMin: 0,
      budgets: [{ period: 'monthly', amountUsd: '1' }],
    })
    const { key } = await admin<CreatedApiKey>('POST', `/admin/tenant/${tenant.id}/apikeys`, { name: 'demo' })
    const probe = await call(key, 0)
    if (probe.status !== 200) throw new Error(`the first call answered ${probe.status}: ${probe.text.slice(0, 300)}`)
    if (!args.includes('--race')) {
      process.stdout.write(`tenant   ${tenant.name}\nanswer   ${answerOf(probe.text)}\nheld     $${probe.heldUsd}\n`)
      return 0
    }
    return await race({ tenant, key, heldUsd: probe.heldUsd, admin, call, url, agent })
  } catch (error) {
    process.stderr.write(
      `demo: ${error instanceof Error ? error.message : String(error)}\nIs budgetguard running? npm start\n`,
    )
    return 1
  } finally {
    await agent.close()
  }
}

async function race(o: {
  tenant: Tenant
  key: string
  heldUsd: string
  admin: <T>(method: 'GET' | 'POST', path: string, body?: unknown) => Promise<T>
  call: (key: string, delayMs: number) => Promise<{ status: number }>
  url: string
  agent: Agent
}): Promise<number> {
  const budgets = `/admin/tenant/${o.tenant.id}/budgets`
  const monthly = async () => {
    const states = await o.admin<BudgetState[]>('GET', budgets)
    const state = states.find(budget => budget.period === 'monthly')
    if (!state) throw new Error('the demo tenant has lost its budget')
    return state
  }
  const spentBefore = BigInt((await monthly()).currentUsageNano)
  const limit = spentBefore + parseUsd(o.heldUsd) * paidFor
  await o.admin<Budget[]>('POST', budgets, { budgets: [{ period: 'monthly', amountUsd: formatUsd(limit) }] })

  const answers = await Promise.all(Array.from({ length: calls }, () => o.call(o.key, slowMs)))
  const byStatus = new Map<number, number>()
  for (const { status } of answers) byStatus.set(status, (byStatus.get(status) ?? 0) + 1)

  let state = await monthly()
  for (let waitedMs = 0; state.heldUsd !== '0' && waitedMs < settleWaitMs; waitedMs += 200) {
    await sleep(200)
    state = await monthly()
  }
  const spent = BigInt(state.currentUsageNano)
  const overspend = await overspendOf(o.url, o.agent)
  const counts = [...byStatus].sort(([a], [b]) => a - b).map(([status, n]) => `${n} × ${status}`)
  const isWithin = spent <= limit
  process.stdout.write(
    `${counts.join(', ')}, spent ${isWithin ? '≤' : '>'} limit, overspend $${formatUsd(overspend)}\n` +
      `limit $${formatUsd(limit)}, spent $${formatUsd(spent)}, held $${state.heldUsd}, one hold $${o.heldUsd}\n`,
  )
  const isExact = byStatus.get(200) === Number(paidFor) && byStatus.get(402) === calls - Number(paidFor)
  return isExact && isWithin && overspend === 0n && state.heldUsd === '0' ? 0 : 1
}

async function overspendOf(url: string, agent: Agent): Promise<bigint> {
  const response = await request(`${url}/metrics`, { dispatcher: agent })
  const match = /^budgetguard_overspend_nanousd_total (\d+)/m.exec(await response.body.text())
  if (!match?.[1]) throw new Error('/metrics shows no budgetguard_overspend_nanousd_total')
  return BigInt(match[1])
}

function answerOf(text: string): string {
  const value: unknown = JSON.parse(text)
  const choices = isObject(value) && Array.isArray(value.choices) ? value.choices : []
  const [first] = choices
  const message = isObject(first) && isObject(first.message) ? first.message.content : undefined
  return typeof message === 'string' ? message : text.slice(0, 200)
}

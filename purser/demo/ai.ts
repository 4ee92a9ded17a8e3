// AI calls against the built-in priced model, plain and streamed, until the tighter budget refuses.

import { sleep } from '#platform/time'
import type { Tally } from '../demo.ts'
import type { Caller } from './caller.ts'

interface AiTenant {
  name: string
  monthlyUsd: string
  key: string
}

const wanted = [
  { name: 'acme', monthlyUsd: '50' },
  // Some thirty calls of this demo: it runs out while you watch.
  { name: 'globex', monthlyUsd: '0.0025' },
]

/** Below the 100 requests a minute that a new tenant may make. */
const callEveryMs = 700

const questions = [
  'Summarise the incident of last night for the customer, in three sentences, without blaming anyone.',
  'Which of our machines were idle for more than an hour this week, and what did that cost?',
  'Draft a polite answer to a customer who asks why their invoice is higher than last month.',
  'Explain the difference between reserved and used capacity to a new colleague in finance.',
]

/** Tenants, budgets and a fresh key each; keys are shown once, so every run makes its own and revokes it at the end. */
export async function prepareAi(caller: Caller): Promise<AiTenant[]> {
  const known = await caller.get<{ id: number; name: string; slug: string }[]>('budgetguard', '/admin/tenant')
  const tenants: AiTenant[] = []
  for (const { name, monthlyUsd } of wanted) {
    const tenant =
      known.find(t => t.slug === name || t.name === name) ??
      (await caller.post<{ id: number }>('budgetguard', '/admin/tenant', { name }))
    await caller.post('budgetguard', `/admin/tenant/${tenant.id}/budgets`, {
      budgets: [{ period: 'monthly', amountUsd: monthlyUsd }],
    })
    const { key } = await caller.post<{ key: string }>('budgetguard', `/admin/tenant/${tenant.id}/apikeys`, {
      name: 'demo',
      expiresAt: new Date(Date.now() + 86_400_000).toISOString(),
    })
    tenants.push({ name, monthlyUsd, key })
  }
  return tenants
}

export async function aiTraffic(caller: Caller, tenants: readonly AiTenant[], ends: AbortSignal): Promise<Tally[]> {
  return Promise.all(
    tenants.map(async ({ name, key }) => {
      const counts: Record<string, number> = { answered: 0, 'refused by budget (402)': 0 }
      for (let i = 0; !ends.aborted; i++) {
        const isStream = i % 2 === 1
        const response = await caller.send(
          'budgetguard',
          '/v1/chat/completions',
          {
            model: 'echo-priced',
            max_tokens: 200,
            stream: isStream,
            messages: [{ role: 'user', content: questions[i % questions.length] }],
          },
          { authorization: `Bearer ${key}`, 'x-echo-delay-ms': '30' },
        )
        await response.text()
        const outcome = response.ok
          ? 'answered'
          : response.status === 402
            ? 'refused by budget (402)'
            : `answered ${response.status}`
        counts[outcome] = (counts[outcome] ?? 0) + 1
        await sleep(callEveryMs, ends).catch(() => {})
      }
      return { what: 'AI calls', tenant: name, counts }
    }),
  )
}

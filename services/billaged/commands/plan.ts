import { parseUsd } from '#platform/money'
import { UsageError } from './client.ts'
import { type Call, command, exitOk, required } from './command.ts'
import { table } from './format.ts'

interface Version {
  version: number
  effectiveFrom: string
  unbilled: string[]
  prices: Record<string, unknown>[]
}

export const plan = command({
  summary: 'list plans, show one, or add a version with another price or unbilled meter',
  usage:
    'plan [ID] | plan add-price ID --meter M --per N --amount NANO [--price ID] --from TIME | plan unbilled ID METER --from TIME [--json]',
  options: ['meter', 'per', 'amount', 'price', 'from'],
  async run(call) {
    const [verb, id] = call.words
    switch (verb) {
      case 'add-price': {
        const meter = required(call.flags.meter, '--meter')
        const price = {
          id: call.flags.price ?? meter.replaceAll('_', '-'),
          model: 'per_unit',
          meter,
          per: required(call.flags.per, '--per (base units of the meter)'),
          amountNano: required(call.flags.amount, '--amount (nano-units)'),
        }
        return addVersion(call, required(id, 'the plan'), last => ({ ...last, prices: [...last.prices, price] }))
      }
      case 'unbilled': {
        const meter = required(call.words[2], 'the meter')
        return addVersion(call, required(id, 'the plan'), last => ({ ...last, unbilled: [...last.unbilled, meter] }))
      }
      case undefined: {
        const list = await call.client.get<{
          plans: { id: string; name: string; currency: string; versions: number }[]
        }>('/v1/plans?limit=1000')
        call.print(list, table(list.plans.map(row => [row.id, row.name, row.currency, `${row.versions} versions`])))
        return exitOk
      }
      default: {
        const { versions } = await versionsOf(call, verb)
        call.print({ versions }, [JSON.stringify(versions.at(-1) ?? null, null, 2)])
        return exitOk
      }
    }
  },
})

async function addVersion(call: Call, id: string, change: (last: Omit<Version, 'version'>) => object): Promise<number> {
  const from = required(call.flags.from, '--from, a whole UTC hour such as 2026-10-01T00:00:00Z,')
  const last = (await versionsOf(call, id)).versions.at(-1)
  if (last === undefined) throw new UsageError(`plan ${id} has no version to add to; POST /v1/plans/${id}/versions`)
  const { version: _, ...body } = last
  const answer = await call.client.post<{ version: number }>(`/v1/plans/${encodeURIComponent(id)}/versions`, {
    ...change(body),
    effectiveFrom: from,
  })
  call.print(answer, [`${id} v${answer.version} from ${from}`])
  return exitOk
}

function versionsOf(call: Call, id: string): Promise<{ versions: Version[] }> {
  return call.client.get(`/v1/plans/${encodeURIComponent(id)}/versions`)
}

export const subscribe = command({
  summary: 'put a customer on a plan',
  usage: 'subscribe CUSTOMER --plan ID --from TIME [--to TIME] [--json]',
  options: ['plan', 'from', 'to'],
  async run({ words, flags, client, print }) {
    const customerId = required(words[0], 'the customer')
    const body = {
      customerId,
      planId: required(flags.plan, '--plan'),
      from: required(flags.from, '--from'),
      to: flags.to ?? null,
    }
    print(await client.post<unknown>('/v1/subscriptions', body), [
      `${customerId} is on ${body.planId} from ${body.from}`,
    ])
    return exitOk
  },
})

export const unsubscribe = command({
  summary: 'end the plan that a customer is on',
  usage:
    'unsubscribe CUSTOMER --at TIME [--json]   (a whole UTC hour; corrections of closed periods follow by themselves)',
  options: ['at'],
  async run({ words, flags, client, print }) {
    const customerId = required(words[0], 'the customer')
    const at = required(flags.at, '--at')
    const atMs = Date.parse(at)
    const { subscriptions } = await client.get<{
      subscriptions: { id: string; planId: string; from: string; to: string | null }[]
    }>(`/v1/subscriptions?limit=1000&customerId=${encodeURIComponent(customerId)}`)
    const running = subscriptions.find(
      ({ from, to }) => Date.parse(from) < atMs && (to === null || Date.parse(to) >= atMs),
    )
    if (running === undefined) throw new Error(`${customerId} is on no plan at ${at}`)
    const ended = await client.post<unknown>(`/v1/subscriptions/${running.id}/end`, { at })
    print(ended, [`${customerId} is on ${running.planId} until ${at}`])
    return exitOk
  },
})

export const credit = command({
  summary: 'give a customer credit',
  usage:
    'credit CUSTOMER --kind promotional|prepaid --amount DECIMAL [--expires TIME] [--priority N] [--note TEXT] [--idempotency-key K]',
  options: ['kind', 'amount', 'expires', 'priority', 'note', 'idempotency-key'],
  async run({ words, flags, client, print }) {
    const customerId = required(words[0], 'the customer')
    const body = {
      customerId,
      kind: required(flags.kind, '--kind'),
      amountNano: `${parseUsd(required(flags.amount, '--amount'))}`,
      ...(flags.expires === undefined ? {} : { expires: flags.expires }),
      ...(flags.priority === undefined ? {} : { priority: Number(flags.priority) }),
      ...(flags.note === undefined ? {} : { note: flags.note }),
    }
    const key = flags['idempotency-key']
    const answer = await client.post<{ id: string }>(
      '/v1/credits',
      body,
      key === undefined ? {} : { 'idempotency-key': key },
    )
    print(answer, [`${answer.id}: ${flags.amount} ${body.kind} for ${customerId}`])
    return exitOk
  },
})

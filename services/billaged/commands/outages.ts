import type { CreditView, OutageList, OutageView } from '../api.ts'
import { command, exitOk, required } from './command.ts'
import { clockTime, money, table } from './format.ts'

export const outages = command({
  summary: 'time that hosts were down and what it is worth, or a credit for it',
  usage:
    'outages [YYYY-MM] [--customer ID] [--json]\n       billaged outages credit CUSTOMER YYYY-MM [--kind promotional|prepaid]',
  options: ['customer', 'kind'],
  async run({ words, flags, client, print }) {
    if (words[0] === 'credit') {
      const customerId = required(words[1], 'the customer')
      const period = required(words[2], 'the month, such as 2026-10,')
      const kind = flags.kind === undefined ? {} : { kind: flags.kind }
      const credit = await client.post<CreditView>('/v1/outages/credit', { customerId, period, ...kind })
      print(credit, [`${credit.id}: ${money(credit.currency, credit.amountNano)} ${credit.kind} for ${customerId}`])
      return exitOk
    }
    const found: OutageView[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query = new URLSearchParams({ cursor, limit: '100' })
      if (words[0] !== undefined) query.set('period', words[0])
      if (flags.customer !== undefined) query.set('customer', flags.customer)
      const page: OutageList = await client.get<OutageList>(`/v1/outages?${query}`)
      found.push(...page.outages)
      cursor = page.nextCursor
    }
    const rows = found.map(one => [
      one.customerId,
      one.period.from.slice(0, 7),
      `${one.vmCount} VMs`,
      clockTime(one.hostDownNs),
      `credited ${money(one.currency, one.creditedNano)}`,
      `worth ${money(one.currency, one.worthNano)}`,
    ])
    print({ outages: found }, rows.length === 0 ? ['No host was down.'] : table(rows))
    return exitOk
  },
})

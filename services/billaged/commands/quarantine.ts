import { command, exitOk, required } from './command.ts'
import { table } from './format.ts'

interface Items {
  items: {
    id: string
    what: string
    customerId: string | null
    vmId: string | null
    reason: string
    receivedAt: string
  }[]
}

export const quarantine = command({
  summary: 'list doubtful samples, notices and events, release them into the set or discard them',
  usage: 'quarantine [--customer ID] [release|discard ID…] [--json]',
  options: ['customer'],
  async run({ words, flags, client, print }) {
    const [verb, ...ids] = words
    if (verb === 'release' || verb === 'discard') {
      required(ids[0], 'the item')
      const done: unknown[] = []
      for (const id of ids) done.push(await client.post<unknown>(`/v1/quarantine/${encodeURIComponent(id)}/${verb}`))
      print(done, [`${ids.length} ${verb === 'release' ? 'released' : 'discarded'}`])
      return exitOk
    }
    const query = flags.customer === undefined ? '' : `&customer=${encodeURIComponent(flags.customer)}`
    const list = await client.get<Items>(`/v1/quarantine?limit=1000${query}`)
    const rows = list.items.map(item => [
      item.id,
      item.what,
      item.customerId ?? '',
      item.vmId ?? '',
      item.receivedAt,
      item.reason,
    ])
    print(list, rows.length === 0 ? ['Nothing is in quarantine.'] : table(rows))
    return exitOk
  },
})

import { Refused, UsageError } from './client.ts'
import { type Call, command, exitOk, required } from './command.ts'
import { table } from './format.ts'

interface Item {
  id: string
  what: string
  customerId: string | null
  vmId: string | null
  reason: string
  receivedAt: string
}

interface Items {
  items: Item[]
  nextCursor: string | null
}

export const quarantine = command({
  summary: 'list doubtful samples, notices and events, release them into the set or discard them',
  usage:
    'quarantine [--customer ID] [--set-aside-as REASON] [--json]\n       billaged quarantine release|discard (ID… | --all --customer ID [--set-aside-as REASON]) [--why TEXT]',
  options: ['customer', 'set-aside-as', 'why'],
  switches: ['all'],
  async run(call) {
    const { words, print } = call
    const [verb] = words
    if (verb === 'release' || verb === 'discard') return decide(call, verb)
    if (verb !== undefined) throw new UsageError(`${verb} is neither release nor discard`)
    const items: Item[] = []
    for await (const item of openItems(call)) items.push(item)
    const rows = items.map(item => [
      item.id,
      item.what,
      item.customerId ?? '',
      item.vmId ?? '',
      item.receivedAt,
      item.reason,
    ])
    print({ items }, rows.length === 0 ? ['Nothing is in quarantine.'] : table(rows))
    return exitOk
  },
})

async function decide(call: Call, verb: 'release' | 'discard'): Promise<number> {
  const { words, flags, client, print } = call
  const ids = words.slice(1)
  if (call.isOn('all')) {
    if (ids.length > 0) throw new UsageError('give items or --all, not both')
    // All of everybody's is more than one step should do.
    required(flags.customer, '--customer')
    for await (const { id } of openItems(call)) ids.push(id)
  } else required(ids[0], 'the item, or --all --customer ID,')
  const done: unknown[] = []
  const refused: string[] = []
  const body = flags.why === undefined ? {} : { reason: flags.why }
  for (const id of ids) {
    try {
      done.push(await client.post<unknown>(`/v1/quarantine/${encodeURIComponent(id)}/${verb}`, body))
    } catch (error) {
      // One that cannot be released must not keep the others waiting.
      if (!(error instanceof Refused && error.status === 409)) throw error
      refused.push(error.message)
    }
  }
  print(done, [`${done.length} ${verb === 'release' ? 'released' : 'discarded'}`])
  if (refused.length === 0) return exitOk
  throw new Refused(409, `${refused.length} not ${verb === 'release' ? 'released' : 'discarded'}: ${refused[0]}`, null)
}

async function* openItems({ flags, client }: Call): AsyncIterable<Item> {
  const reason = flags['set-aside-as']
  for (let cursor: string | null = '0'; cursor !== null; ) {
    const query = new URLSearchParams({ limit: '1000', cursor })
    if (flags.customer !== undefined) query.set('customer', flags.customer)
    const page: Items = await client.get<Items>(`/v1/quarantine?${query}`)
    yield* page.items.filter(item => reason === undefined || item.reason === reason)
    cursor = page.nextCursor
  }
}

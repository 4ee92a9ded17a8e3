// `purser logs quarantine list | show ID | replay ID | discard ID --reason TEXT`

import { readFile } from 'node:fs/promises'
import type { QuarantineAnswer, QuarantinedEntry } from '../../services/log-ingestion/api.ts'
import { openTerminal, table } from '../terminal.ts'
import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, Misuse } from './main.ts'

const tries = 'try: purser logs quarantine list | show ID | replay ID [--entry FILE] | discard ID --reason TEXT'

export async function quarantine(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    status: { type: 'string' },
    entry: { type: 'string' },
    reason: { type: 'string' },
    json: { type: 'boolean' },
  })
  const [verb, id, ...more] = words
  const wantsId = { list: false, show: true, replay: true, discard: true }[verb ?? '']
  if (wantsId === undefined || more.length > 0 || (id !== undefined) !== wantsId) throw new Misuse(tries)
  if (id !== undefined && !/^\d+$/.test(id)) throw new Misuse(`${id} is not the number of an entry; ${tries}`)
  const client = await openClient(env, values)
  const query = new URLSearchParams({
    ...(values.tenant === undefined ? {} : { tenant: values.tenant }),
    ...(values.status === undefined ? {} : { status: values.status }),
  })
  const path = `/api/v1/quarantine${id === undefined ? '' : `/${id}`}`
  switch (verb) {
    case 'list': {
      const answer = await client.call<QuarantineAnswer>('GET', `${path}?${query}`)
      if (values.json) printJson(answer)
      else printList(answer)
      return 0
    }
    case 'show':
      printJson(await client.call<QuarantinedEntry>('GET', `${path}?${query}`))
      return 0
    case 'replay': {
      const body = values.entry === undefined ? {} : { entry: JSON.parse(await readFile(values.entry, 'utf8')) }
      const answer = await client.call<QuarantinedEntry & { receipt: string }>('POST', `${path}/replay?${query}`, body)
      if (values.json) printJson(answer)
      else process.stdout.write(`entry ${id} is on its way; receipt ${answer.receipt}\n`)
      return 0
    }
    default: {
      if (values.reason === undefined) throw new Misuse('say why: --reason TEXT')
      const answer = await client.call<QuarantinedEntry>('POST', `${path}/discard?${query}`, { reason: values.reason })
      if (values.json) printJson(answer)
      else process.stdout.write(`entry ${id} is discarded\n`)
      return 0
    }
  }
}

function printList({ entries, cursor }: QuarantineAnswer): void {
  const t = openTerminal()
  if (entries.length === 0) {
    t.print('Nothing is in quarantine.')
    return
  }
  const rows = entries.map(found => [
    found.id,
    found.received_at,
    found.tenant,
    found.reason,
    found.status,
    found.detail.slice(0, 80),
  ])
  t.print(table(['ID', 'RECEIVED', 'TENANT', 'REASON', 'STATUS', 'DETAIL'], rows))
  if (cursor !== null) process.stderr.write('There are more; see GET /api/v1/quarantine?cursor=…\n')
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

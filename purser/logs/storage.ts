// `purser logs storage [migrate --to columnar]`: where entries are, and moving them.

import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, Misuse } from './main.ts'

interface Sink {
  sink: string
  rows: string
  bytes: string
  partitions: number
  blocks: number
  oldest_day: string | null
}

interface Moved {
  day: string
  rows: number
  digest: string
}

export async function storage(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, { ...clientFlags, to: { type: 'string' }, json: { type: 'boolean' } })
  const [verb] = words
  if (
    words.length > 1 ||
    (verb !== undefined && verb !== 'migrate') ||
    (verb === 'migrate') !== (values.to !== undefined)
  )
    throw new Misuse('try: purser logs storage, or: purser logs storage migrate --to columnar')
  const client = await openClient(env, values)
  if (verb === undefined) {
    const answer = await client.call<{ sinks: Sink[] }>('GET', '/api/v1/storage')
    const lines = answer.sinks.map(({ sink, rows, bytes, blocks, oldest_day }) => {
      const each = Number(rows) > 0 ? (Number(bytes) / Number(rows)).toFixed(1) : '-'
      return `${sink.padEnd(10)} ${rows.padStart(14)} ${bytes.padStart(16)} ${each.padStart(10)} ${String(blocks).padStart(8)}  ${oldest_day ?? '-'}\n`
    })
    const title = `${'sink'.padEnd(10)} ${'rows'.padStart(14)} ${'bytes'.padStart(16)} ${'bytes/row'.padStart(10)} ${'blocks'.padStart(8)}  oldest\n`
    process.stdout.write(values.json ? `${JSON.stringify(answer, null, 2)}\n` : title + lines.join(''))
    return 0
  }
  const days = new Map<string, number>()
  for (;;) {
    const { moved } = await client.call<{ moved: Moved | null }>('POST', '/api/v1/storage/migrate', { to: values.to })
    if (moved === null) break
    days.set(moved.day, (days.get(moved.day) ?? 0) + moved.rows)
    if (process.stderr.isTTY)
      process.stderr.write(`\r${moved.day}  ${days.get(moved.day)} rows, count and digest equal`)
  }
  if (process.stderr.isTTY) process.stderr.write('\n')
  const list = [...days].map(([day, rows]) => ({ day, rows }))
  const text = list.map(({ day, rows }) => `${day}  ${String(rows).padStart(12)} rows moved\n`).join('')
  process.stdout.write(values.json ? `${JSON.stringify({ moved: list }, null, 2)}\n` : text || 'nothing left to move\n')
  return 0
}

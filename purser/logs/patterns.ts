// `purser logs patterns QUERY`: what kinds of messages there are, the most frequent first.

import { openTerminal, table } from '../terminal.ts'
import { clientFlags, openClient } from './client.ts'
import { countFlag, readFlags } from './flags.ts'
import type { CommandContext } from './main.ts'
import { askText } from './search.ts'

interface Answer {
  patterns: {
    template: string
    count: string
    first_seen: string
    new_since_yesterday: boolean | null
    levels: string[]
  }[]
  matches: string
  complete: boolean
}

export async function patterns(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    from: { type: 'string' },
    to: { type: 'string' },
    limit: { type: 'string' },
    json: { type: 'boolean' },
  })
  const limit = countFlag('limit', values.limit, 50, 1_000)
  const parameters = new URLSearchParams({
    q: words.join(' '),
    limit: String(limit),
    timeout: '60s',
  })
  for (const name of ['from', 'to', 'tenant'] as const) {
    const value = values[name]
    if (value !== undefined) parameters.set(name, value)
  }
  const text = await askText(await openClient(env, values), `/api/v1/logs/patterns?${parameters}`)
  const t = openTerminal()
  if (values.json) {
    t.print(text)
    return 0
  }
  const answer = JSON.parse(text) as Answer
  const width = Math.max(5, ...answer.patterns.map(({ count }) => count.length))
  t.print(
    table(
      ['COUNT'.padStart(width), 'NEW', 'FIRST SEEN', 'LEVELS', 'PATTERN'],
      answer.patterns.map(p => [
        p.count.padStart(width),
        p.new_since_yesterday === null ? '?' : p.new_since_yesterday ? t.yellow('new') : '',
        p.first_seen.slice(0, 19),
        p.levels.join(','),
        p.template,
      ]),
    ),
  )
  const more =
    answer.patterns.length === limit
      ? `; these are the ${limit} most frequent kinds, --limit shows more`
      : '; not all of them were grouped: narrow the query or the range'
  process.stderr.write(`${answer.matches} entries${answer.complete ? '' : more}\n`)
  return 0
}

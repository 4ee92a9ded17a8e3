// `purser logs verify`: recomputes the evidence of what is stored. Exit code 1 names the first link that does not hold.

import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, CommandFailed, Misuse } from './main.ts'

interface Day {
  tenant: string
  day: string
  blocks: number
  links: number
  rows: string
  head: string | null
  broken: { at: string; problem: string } | null
}

export async function verify(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    from: { type: 'string' },
    to: { type: 'string' },
    json: { type: 'boolean' },
  })
  if (words.length > 0) throw new Misuse('try: purser logs verify --from 2026-01-01 --to 2026-01-31')
  const client = await openClient(env, values)
  const query = new URLSearchParams()
  for (const name of ['tenant', 'from', 'to'] as const) if (values[name] !== undefined) query.set(name, values[name])
  // A line per day, as they are done: not one JSON document.
  const response = await fetch(`${client.url}/api/v1/chain/verify?${query}`, { headers: client.headers() })
  const text = await response.text()
  if (!response.ok) throw new CommandFailed(`${client.url} answered ${response.status}: ${text.slice(0, 500)}`)
  const days = text
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Day)
  for (const day of days) {
    if (values.json) process.stdout.write(`${JSON.stringify(day)}\n`)
    else
      process.stdout.write(
        `${day.day}  ${day.tenant.padEnd(16)} ${day.rows.padStart(12)} rows ${String(day.links).padStart(8)} links  ${
          day.broken ? `BROKEN: ${day.broken.at} ${day.broken.problem}` : `ok  ${day.head?.slice(0, 16) ?? ''}`
        }\n`,
      )
  }
  const broken = days.filter(day => day.broken)
  if (!values.json)
    process.stderr.write(
      broken.length > 0
        ? `${broken.length} of ${days.length} days do not hold\n`
        : days.length === 1
          ? 'The day holds.\n'
          : `All ${days.length} days hold.\n`,
    )
  return broken.length > 0 ? 1 : 0
}

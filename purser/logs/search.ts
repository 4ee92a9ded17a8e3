// `purser logs search QUERY`: matches, newest first, page by page.

import { openTerminal } from '../terminal.ts'
import { clientFlags, openClient } from './client.ts'
import { entryLine, parseExact, type ShownEntry } from './entry-line.ts'
import { countFlag, readFlags } from './flags.ts'
import { type CommandContext, CommandFailed } from './main.ts'

const pageMax = 1_000

interface Page {
  logs: ShownEntry[]
  cursor: string | null
  partial: boolean
}

export async function search(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    from: { type: 'string' },
    to: { type: 'string' },
    limit: { type: 'string' },
    order: { type: 'string' },
    json: { type: 'boolean' },
  })
  const limit = countFlag('limit', values.limit, 100, 10_000_000)
  const client = await openClient(env, values)
  const t = openTerminal()
  let left = limit
  for (let cursor: string | null = ''; cursor !== null && left > 0; ) {
    const parameters = new URLSearchParams({ q: words.join(' '), limit: String(Math.min(pageMax, left)) })
    for (const name of ['from', 'to', 'order', 'tenant'] as const) {
      const value = values[name]
      if (typeof value === 'string') parameters.set(name, value)
    }
    if (cursor !== '') parameters.set('cursor', cursor)
    const page = parseExact(await askText(client, `/api/v1/logs/search?${parameters}`)) as Page
    for (const entry of page.logs) t.print(values.json ? JSON.stringify(entry) : entryLine(entry, t))
    left -= page.logs.length
    cursor = page.cursor
    // A page that ended early says nothing of what is behind it; a page of the wanted size may.
    if (cursor !== null && left <= 0)
      process.stderr.write(`more than ${limit} match; raise --limit or narrow the query\n`)
  }
  return 0
}

export async function askText(
  client: { url: string; headers(): Record<string, string> },
  path: string,
): Promise<string> {
  const response = await fetch(client.url + path, { headers: client.headers() }).catch(error => {
    throw new CommandFailed(
      `${client.url} does not answer (${causeOf(error)}). Is it running? Set PURSER_LOGS_URL or --url.`,
    )
  })
  const text = await response.text()
  if (!response.ok) throw new CommandFailed(refusalOf(response.status, text))
  return text
}

/** What the service said, with a mark under the place in a query that it did not understand. */
export function refusalOf(status: number, text: string): string {
  try {
    const body = JSON.parse(text) as Record<string, unknown>
    return String(body.detail ?? body.error ?? text)
  } catch {
    return `answered ${status}: ${text.slice(0, 300)}`
  }
}

export function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message : error.message
}

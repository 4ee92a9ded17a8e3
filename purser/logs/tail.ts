// `purser logs tail QUERY`: live until Ctrl-C. A lost connection is taken up again behind the last entry that was shown.

import { sleep } from '#platform/time'
import { openTerminal } from '../terminal.ts'
import { clientFlags, openClient, type ServiceClient } from './client.ts'
import { entryLine, parseExact, type ShownEntry } from './entry-line.ts'
import { countFlag, readFlags } from './flags.ts'
import { type CommandContext, CommandFailed } from './main.ts'
import { causeOf, refusalOf } from './search.ts'

const backoffMaxMs = 5_000
/** Heartbeats come every 15 s; silence for longer is a dead connection. */
const silenceMs = 45_000

export async function tail(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, { ...clientFlags, limit: { type: 'string' }, json: { type: 'boolean' } })
  const limit = countFlag('limit', values.limit, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  const client = await openClient(env, values)
  const t = openTerminal()
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())
  process.once('SIGTERM', () => stop.abort())

  const parameters = new URLSearchParams({ q: words.join(' ') })
  if (values.tenant !== undefined) parameters.set('tenant', values.tenant)
  const path = `/api/v1/logs/tail?${parameters}`
  let last = ''
  let shown = 0
  let attempt = 0
  while (!stop.signal.aborted && shown < limit) {
    try {
      for await (const { event, data, id } of eventsOf(client, path, last, stop.signal)) {
        attempt = 0
        if (event === 'gap') {
          const { dropped } = JSON.parse(data) as { dropped: number | null }
          if (values.json) t.print(JSON.stringify({ gap: { dropped } }))
          else process.stderr.write(`--- ${dropped ?? 'an unknown number of'} entries are missing here ---\n`)
        }
        if (event !== 'log') continue
        const entry = parseExact(data) as ShownEntry
        t.print(values.json ? JSON.stringify(entry) : entryLine(entry, t))
        last = id
        if (++shown >= limit) return 0
      }
    } catch (error) {
      if (stop.signal.aborted) break
      if (error instanceof CommandFailed) throw error
      if (attempt === 0) process.stderr.write(`connection lost (${causeOf(error)}); trying again\n`)
    }
    await sleep(Math.min(backoffMaxMs, 200 * 2 ** attempt++), stop.signal).catch(() => {})
  }
  return 0
}

interface Event {
  event: string
  data: string
  id: string
}

async function* eventsOf(client: ServiceClient, path: string, last: string, stop: AbortSignal): AsyncGenerator<Event> {
  const quiet = new AbortController()
  let timer = setTimeout(() => quiet.abort(new Error('nothing was heard for too long')), silenceMs)
  try {
    const response = await fetch(client.url + path, {
      headers: { ...client.headers(), accept: 'text/event-stream', ...(last === '' ? {} : { 'last-event-id': last }) },
      signal: AbortSignal.any([stop, quiet.signal]),
    })
    // Others may pass: too many tails, a restart, a database that is not there yet.
    if ([400, 401, 403, 404].includes(response.status))
      throw new CommandFailed(refusalOf(response.status, await response.text()))
    if (!response.ok || !response.body) throw new Error(refusalOf(response.status, await response.text()))
    let rest = ''
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      timer = restarted(timer, quiet)
      const blocks = (rest + chunk).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        const fields = new Map(
          block.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
        )
        yield { event: fields.get('event') ?? '', data: fields.get('data') ?? '', id: fields.get('id') ?? '' }
      }
    }
  } finally {
    clearTimeout(timer)
  }
}

function restarted(timer: NodeJS.Timeout, quiet: AbortController): NodeJS.Timeout {
  clearTimeout(timer)
  return setTimeout(() => quiet.abort(new Error('nothing was heard for too long')), silenceMs)
}

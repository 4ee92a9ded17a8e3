// `purser logs export QUERY`: every match to stdout or a file, checked against the number of rows the service counted.

import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { clientFlags, openClient, type ServiceClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, CommandFailed } from './main.ts'
import { causeOf, refusalOf } from './search.ts'

export async function exportLogs(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    from: { type: 'string' },
    to: { type: 'string' },
    order: { type: 'string' },
    format: { type: 'string' },
    fields: { type: 'string' },
    output: { type: 'string' },
    json: { type: 'boolean' },
  })
  const client = await openClient(env, values)
  const parameters = new URLSearchParams({ q: words.join(' ') })
  for (const name of ['from', 'to', 'order', 'format', 'fields', 'tenant'] as const) {
    const value = values[name]
    if (value !== undefined) parameters.set(name, value)
  }
  const response = await open(client, `/api/v1/logs/export?${parameters}`)
  if (response.statusCode !== 200) throw new CommandFailed(refusalOf(response.statusCode ?? 0, await text(response)))
  const { output } = values
  // A file that is not whole never has the name that was asked for.
  const partial = output === undefined ? undefined : `${output}.part`
  try {
    if (partial === undefined) await pipeline(response, process.stdout, { end: false })
    else await pipeline(response, createWriteStream(partial, { mode: 0o600 }))
    const rows = response.trailers['x-export-rows']
    if (!response.complete || rows === undefined)
      throw new CommandFailed('the export was cut before its end; what arrived is incomplete')
    if (partial !== undefined && output !== undefined) await rename(partial, output)
    const said = values.json
      ? JSON.stringify({ rows, output: output ?? null })
      : `${rows} rows${output ? ` in ${output}` : ''}`
    process.stderr.write(`${said}\n`)
    return 0
  } catch (error) {
    if (partial !== undefined) await rm(partial, { force: true })
    if (error instanceof CommandFailed) throw error
    throw new CommandFailed(`the export was cut before its end (${causeOf(error)}); what arrived is incomplete`)
  }
}

/** `fetch` hides trailers. */
function open(client: ServiceClient, path: string): Promise<IncomingMessage> {
  const request = client.url.startsWith('https:') ? httpsRequest : httpRequest
  return new Promise((resolve, reject) =>
    request(client.url + path, { headers: client.headers() }, resolve)
      .once('error', error =>
        reject(
          new CommandFailed(
            `${client.url} does not answer (${causeOf(error)}). Is it running? Set PURSER_LOGS_URL or --url.`,
          ),
        ),
      )
      .end(),
  )
}

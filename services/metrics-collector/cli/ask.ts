// Commands that ask the running collector over its own port.

import { request } from 'node:http'
import type { QueryResponse, StatusResponse } from '../api.ts'
import { labelText } from '../exposition.ts'

interface Output {
  write(text: string): void
}

export interface AskOptions {
  url: string
  isJson: boolean
  out: Output
  err: Output
}

export async function runStatus({ url, isJson, out, err }: AskOptions): Promise<number> {
  const status = await ask<StatusResponse>(url, '/api/v1/status', err)
  if (!status) return 1
  if (isJson) out.write(`${JSON.stringify(status, null, 2)}\n`)
  else out.write(statusText(status))
  return status.status === 'error' ? 1 : 0
}

function statusText({
  status,
  version,
  deviceId,
  uptimeS,
  series,
  newestStampMs,
  storage,
  upload,
  dropped,
}: StatusResponse): string {
  const lost = Object.entries(dropped).filter(([, n]) => n > 0)
  const rows = [
    ['status', `${status}   ${deviceId}, version ${version}, up ${duration(uptimeS)}`],
    ['newest sample', newestStampMs === 0 ? 'none' : new Date(newestStampMs).toISOString()],
    ['series', series.toLocaleString('en')],
    [
      'database',
      `${mib(storage.usedBytes)} used of ${mib(storage.bytesMax)}, WAL ${mib(storage.walBytes)}   ${storage.path}`,
    ],
    ['last commit', `${storage.commitMs.toFixed(2)} ms`],
    [
      'upload',
      upload.isEnabled
        ? `pending ${upload.pending.toLocaleString('en')}, delivered ${upload.uploaded.toLocaleString('en')}, last ${upload.lastSuccess}${upload.trouble === '' ? '' : ` (${upload.trouble})`}`
        : 'disabled, samples stay here (set remote.url)',
    ],
    [
      'lost',
      lost.length === 0 ? 'nothing' : lost.map(([reason, n]) => `${n.toLocaleString('en')} ${reason}`).join(', '),
    ],
  ]
  return `${rows.map(([name = '', value = '']) => `${name.padEnd(14)} ${value}`).join('\n')}\n`
}

export async function runQuery(query: string, { url, isJson, out, err }: AskOptions): Promise<number> {
  const answer = await ask<QueryResponse>(url, `/api/v1/query?${new URLSearchParams({ query })}`, err)
  if (!answer) return 1
  if (isJson) out.write(`${JSON.stringify(answer, null, 2)}\n`)
  if (answer.status === 'error') {
    if (!isJson) err.write(`metrics-collector: ${answer.error}\n`)
    return 1
  }
  if (isJson) return 0
  const { data } = answer
  if (data.resultType === 'scalar') out.write(`${data.result[1]}\n`)
  else if (data.result.length === 0) err.write('metrics-collector: no series match\n')
  else if (data.resultType === 'matrix')
    for (const { metric, values } of data.result)
      for (const [seconds, value] of values)
        out.write(`${seriesText(metric)}  ${new Date(seconds * 1_000).toISOString()}  ${value}\n`)
  else {
    const rows = data.result.map(({ metric, value: [, value] }) => ({ name: seriesText(metric), value }))
    const width = Math.max(...rows.map(row => row.name.length))
    for (const row of rows) out.write(`${row.name.padEnd(width)}  ${row.value}\n`)
  }
  return 0
}

function seriesText({ __name__: name = '', ...labels }: Readonly<Record<string, string>>): string {
  return `${name}${labelText(labels)}` || '{}'
}

/** Undefined, with a sentence on standard error, when nobody answers. */
async function ask<T>(base: string, path: string, err: Output): Promise<T | undefined> {
  try {
    return (await getJson(new URL(path, base))) as T
  } catch (error) {
    const reason = error instanceof Error ? error.message || error.name : String(error)
    err.write(`metrics-collector: no answer from ${base} (${reason}). Is it running? Set -url or -config.\n`)
    return undefined
  }
}

const answerBytesMax = 64 * 1024 * 1024

function getJson(url: URL): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  const req = request(url, { timeout: 15_000 }, res => {
    const chunks: Buffer[] = []
    let bytes = 0
    res.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > answerBytesMax) req.destroy(new Error('the answer is too large'))
      chunks.push(chunk)
    })
    res.on('error', reject)
    res.on('end', () => {
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')))
      } catch {
        reject(new Error(`status ${res.statusCode}, not JSON; another program may have this port`))
      }
    })
  })
  req.on('timeout', () => req.destroy(new Error('no answer within 15 s')))
  req.on('error', reject)
  req.end()
  return promise
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}

function duration(seconds: number): string {
  const hours = Math.floor(seconds / 3_600)
  const minutes = Math.floor(seconds / 60) % 60
  return hours > 0 ? `${hours}h${minutes}m` : minutes > 0 ? `${minutes}m${seconds % 60}s` : `${seconds}s`
}

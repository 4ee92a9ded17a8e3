// What a flood by one key costs another: the answers of a quiet sender, alone and beside the flood (G22: p99 < 100 ms, no
// 429). The flood runs in a process of its own, so that only the service and the machine are shared.

import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'
import { type Figures, report, timeAt } from './report.ts'
import { createBodies } from './rows.ts'
import { quietKey, type Subject, writeKey } from './service.ts'

const quietEveryMs = 20
const rowsPerQuietRequest = 10

export const floods = [
  { name: '32 connections of 500 rows', connections: 32, rowsPerRequest: 500 },
  { name: '64 connections of 5 000 rows', connections: 64, rowsPerRequest: 5_000 },
] as const

export async function benchNoisy(subject: Subject, seconds: number): Promise<void> {
  const alone = await quiet(subject.url, seconds)
  report('quiet', alone.figures, `quiet sender alone: ${alone.text}`)
  for (const { name, connections, rowsPerRequest } of floods) {
    const flood = startFlood([subject.url, String(connections), String(rowsPerRequest)])
    await flood.begun
    const { figures, text } = await quiet(subject.url, seconds)
    const flooded = await flood.stop()
    report(
      'noisy',
      { beside: name, ...figures, flood: flooded },
      `beside a flood of ${name}: ${text}; the flood: ${flooded}`,
    )
  }
}

/** A request every 20 ms whether or not the one before was answered: waiting must not hide in fewer requests. */
async function quiet(url: string, seconds: number): Promise<{ figures: Figures; text: string }> {
  const pool = new Pool(url, { connections: 256, pipelining: 1 })
  const bodies = createBodies(rowsPerQuietRequest)
  const latencies: number[] = []
  let refused = 0
  const send = async () => {
    const body = bodies.next()
    const sentMs = performance.now()
    const headers = { 'x-api-key': quietKey }
    const answer = await pool.request({ method: 'POST', path: '/api/v1/logs/batch', headers, body })
    await answer.body.text()
    latencies.push(performance.now() - sentMs)
    if (answer.statusCode !== 202) refused++
    bodies.release(body)
  }
  const sent: Promise<void>[] = []
  const beginMs = performance.now()
  for (let i = 0; performance.now() - beginMs < seconds * 1_000; i++) {
    sent.push(send())
    const nextMs = beginMs + (i + 1) * quietEveryMs - performance.now()
    if (nextMs > 0) await new Promise(resolve => setTimeout(resolve, nextMs))
  }
  await Promise.all(sent)
  await pool.close()
  latencies.sort((a, b) => a - b)
  const at = (share: number) => timeAt(latencies, share).toFixed(1)
  return {
    figures: {
      requests: latencies.length,
      p50_ms: timeAt(latencies, 0.5),
      p99_ms: timeAt(latencies, 0.99),
      longest_ms: timeAt(latencies, 1),
      refused,
    },
    text: `${latencies.length} requests, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms, ${refused} refused`,
  }
}

function startFlood(args: string[]): { begun: Promise<void>; stop(): Promise<string> } {
  const child: ChildProcess = spawn(process.execPath, [fileURLToPath(import.meta.url), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  const begun = new Promise<void>(resolve => {
    child.stdout?.setEncoding('utf8').on('data', text => {
      said += text
      if (said.includes('begun')) resolve()
    })
  })
  return {
    begun,
    async stop() {
      child.stdin?.end()
      await gone
      return said.replace('begun', '').trim()
    },
  }
}

/** The child: floods until its input ends. */
async function flood(url: string, connections: number, rowsPerRequest: number): Promise<void> {
  const pool = new Pool(url, { connections, pipelining: 1 })
  const bodies = createBodies(rowsPerRequest)
  const beginMs = performance.now()
  let accepted = 0
  let refused = 0
  let isOver = false
  process.stdin.on('end', () => {
    isOver = true
  })
  process.stdin.resume()
  process.stdout.write('begun\n')
  const send = async () => {
    while (!isOver) {
      const body = bodies.next()
      const headers = { 'x-api-key': writeKey }
      const sent = pool.request({ method: 'POST', path: '/api/v1/logs/batch', headers, body })
      const status = await sent.then(async answer => {
        await answer.body.text()
        return answer.statusCode
      }, String)
      if (status === 202) accepted += rowsPerRequest
      else if (status === 429) refused++
      else process.stderr.write(`the flood got ${status}\n`)
      bodies.release(body)
    }
  }
  await Promise.all(Array.from({ length: connections }, send))
  await pool.close()
  const seconds = (performance.now() - beginMs) / 1_000
  process.stdout.write(
    `${Math.round(accepted / seconds).toLocaleString('en')} rows/s taken, ${refused} requests refused\n`,
  )
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url = '', connections, rowsPerRequest] = process.argv.slice(2)
  await flood(url, Number(connections), Number(rowsPerRequest))
}

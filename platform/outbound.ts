// Sending to an address that a tenant chose. The name is resolved once, every address it has is checked, and the one that
// was checked is the one that is dialled. No redirects: they would lead past the check.

import { lookup } from 'node:dns/promises'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP } from 'node:net'
import type { DeniedNetworks } from './network.ts'

export type OutboundOutcome = { status: number; problem: null } | { status: number | null; problem: string }

export interface OutboundPost {
  url: string
  body: string
  headers: Readonly<Record<string, string>>
  denied: DeniedNetworks
  /** Of the whole exchange, the look-up of the name included. */
  timeoutMs: number
}

/** Of the answer; nobody reads it. */
const answerBytesMax = 64 * 1024

/** Never throws; anything but a 2xx is a problem, told without the URL, which may hold a secret. */
export async function postOutbound(post: OutboundPost): Promise<OutboundOutcome> {
  try {
    const status = await exchange(post)
    if (status >= 200 && status < 300) return { status, problem: null }
    const hint = status >= 300 && status < 400 ? '; redirects are not followed' : ''
    return { status, problem: `answered ${status}${hint}` }
  } catch (error) {
    return { status: null, problem: problemOf(error, post.timeoutMs) }
  }
}

class Denied extends Error {}

async function exchange({ url, body, headers, denied, timeoutMs }: OutboundPost): Promise<number> {
  const target = new URL(url)
  const signal = AbortSignal.timeout(timeoutMs)
  const address = await Promise.race([addressOf(target, denied), rejectOn(signal)])
  const payload = Buffer.from(body)
  return await new Promise<number>((resolve, reject) => {
    const request = (target.protocol === 'https:' ? requestHttps : requestHttp)(
      target,
      {
        method: 'POST',
        agent: false,
        signal,
        // Whatever the name says by now: the connection goes where the check was.
        lookup: (_hostname, options, done) => {
          if (options.all) done(null, [address])
          else done(null, address.address, address.family)
        },
        headers: { 'Content-Type': 'application/json', 'Content-Length': payload.length, ...headers },
      },
      response => {
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > answerBytesMax) response.destroy()
        })
        response.on('close', () => resolve(response.statusCode ?? 0))
        response.on('error', () => {})
      },
    )
    request.on('error', reject)
    request.end(payload)
  })
}

async function addressOf({ hostname }: URL, denied: DeniedNetworks): Promise<{ address: string; family: number }> {
  const host = hostname.replace(/^\[(.*)\]$/, '$1')
  const literal = isIP(host)
  const addresses = literal === 0 ? await lookup(host, { all: true }) : [{ address: host, family: literal }]
  // One forbidden address among them is reason enough: the next look-up might put it first.
  for (const { address } of addresses) {
    if (!denied.has(address)) continue
    throw new Denied(`${denied.reason?.(address) ?? 'WEBHOOK_DENY forbids it'}: ${host} leads to ${address}`)
  }
  const [first] = addresses
  if (!first) throw new Error(`${host} has no address`)
  return first
}

function rejectOn(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
}

function problemOf(error: unknown, timeoutMs: number): string {
  if (error instanceof Denied) return error.message
  // A request says AbortError, whatever the reason of its signal; only the time-out aborts ours.
  if (error instanceof Error && /^(Timeout|Abort)Error$/.test(error.name))
    return `no answer within ${timeoutMs / 1_000} s`
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return code === '' ? (error instanceof Error ? error.message : String(error)).slice(0, 200) : code
}

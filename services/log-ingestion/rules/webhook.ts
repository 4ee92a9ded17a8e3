// Sending a notification to an address that a tenant chose. The name is resolved once, every address it has is checked, and
// the one that was checked is the one that is dialled. No redirects: they would lead past the check.

import { createHmac } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP } from 'node:net'
import type { DeniedNetworks } from './network.ts'

export interface Delivery {
  /** The same on every attempt. */
  id: string
  url: string
  body: string
  secret: string
}

export type DeliveryOutcome = { status: number; problem: null } | { status: number | null; problem: string }

export interface WebhookSender {
  /** Never throws; anything but a 2xx is a problem. */
  send(delivery: Delivery, nowMs: number): Promise<DeliveryOutcome>
}

const timeoutMs = 10_000
/** Of the answer; nobody reads it. */
const answerBytesMax = 64 * 1024

export function createWebhookSender(denied: DeniedNetworks): WebhookSender {
  return {
    async send(delivery, nowMs) {
      try {
        const status = await post(delivery, nowMs, denied)
        if (status >= 200 && status < 300) return { status, problem: null }
        const hint = status >= 300 && status < 400 ? '; redirects are not followed' : ''
        return { status, problem: `answered ${status}${hint}` }
      } catch (error) {
        return { status: null, problem: problemOf(error) }
      }
    },
  }
}

/** `t=<unix>,v1=<hex HMAC-SHA256 of "t.body">` */
export function signatureOf(secret: string, body: string, nowMs: number): string {
  const t = Math.floor(nowMs / 1_000)
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`
}

class Denied extends Error {}

async function post({ id, url, body, secret }: Delivery, nowMs: number, denied: DeniedNetworks): Promise<number> {
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
        headers: {
          'Content-Type': 'application/json',
          'Content-Length': payload.length,
          'User-Agent': 'purser-log-ingestion',
          'X-Purser-Delivery': id,
          'X-Purser-Signature': signatureOf(secret, body, nowMs),
        },
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
  for (const { address } of addresses) if (denied.has(address)) throw new Denied(`${host} leads to ${address}`)
  const [first] = addresses
  if (!first) throw new Error(`${host} has no address`)
  return first
}

function rejectOn(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
}

/** For the delivery's row: what went wrong, without the address, which may hold a secret. */
function problemOf(error: unknown): string {
  if (error instanceof Denied) return `WEBHOOK_DENY forbids it: ${error.message}`
  if (error instanceof Error && error.name === 'TimeoutError') return `no answer within ${timeoutMs / 1_000} s`
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return code === '' ? (error instanceof Error ? error.message : String(error)).slice(0, 200) : code
}

// Sending a notification to an address that a tenant chose.

import { createHmac } from 'node:crypto'
import type { DeniedNetworks } from '#platform/network'
import { type OutboundOutcome, postOutbound } from '#platform/outbound'

export interface Delivery {
  /** The same on every attempt. */
  id: string
  url: string
  body: string
  secret: string
}

export type DeliveryOutcome = OutboundOutcome

export interface WebhookSender {
  /** Never throws; anything but a 2xx is a problem. */
  send(delivery: Delivery, nowMs: number): Promise<DeliveryOutcome>
}

const timeoutMs = 10_000

export function createWebhookSender(denied: DeniedNetworks): WebhookSender {
  return {
    send: ({ id, url, body, secret }, nowMs) =>
      postOutbound({
        url,
        body,
        denied,
        timeoutMs,
        headers: {
          'User-Agent': 'purser-log-ingestion',
          'X-Purser-Delivery': id,
          'X-Purser-Signature': signatureOf(secret, body, nowMs),
        },
      }),
  }
}

/** `t=<unix>,v1=<hex HMAC-SHA256 of "t.body">` */
export function signatureOf(secret: string, body: string, nowMs: number): string {
  const t = Math.floor(nowMs / 1_000)
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`
}

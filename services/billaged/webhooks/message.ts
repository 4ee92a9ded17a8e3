import { createHash, createHmac } from 'node:crypto'

// Messages as Standard Webhooks (standardwebhooks.com) has them: what is told, under which id, and how it is signed.

export const messageTypes = [
  'spend.threshold_reached',
  'invoice.finalised',
  'invoice.adjusted',
  'usage.unrated',
  'host.down',
  'close.blocked',
] as const
export type MessageType = (typeof messageTypes)[number]

export interface Message {
  type: MessageType | 'webhook.test'
  /** What it is about. The same key is the same message, told to each endpoint once. */
  key: readonly (string | number)[]
  /** Null: the installation's, told to operators only. */
  customerId: string | null
  atMs: number
  data: Readonly<Record<string, unknown>>
}

export function messageId({ type, key }: Pick<Message, 'type' | 'key'>): string {
  return `msg_${digestOf([type, ...key])}`
}

export function deliveryId(endpointId: string, message: string): string {
  return `whd_${digestOf([endpointId, message])}`
}

export function messageBody({ type, atMs, data }: Message): string {
  return JSON.stringify({ type, timestamp: new Date(atMs).toISOString(), data })
}

/** The secret of an endpoint, as its owner is shown it: derived, so that the database holds none. */
export function endpointSecret(key: Buffer, endpointId: string, version: number): string {
  return `${secretPrefix}${createHmac('sha256', key).update(`${endpointId}/${version}`).digest('base64')}`
}

/** The three headers of one attempt. The timestamp is of the attempt: receivers refuse old ones. */
export function signedHeaders(secret: string, id: string, body: string, nowMs: number): Record<string, string> {
  const timestamp = `${Math.floor(nowMs / 1_000)}`
  const key = Buffer.from(secret.slice(secretPrefix.length), 'base64')
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` }
}

const secretPrefix = 'whsec_'

function digestOf(value: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 32)
}

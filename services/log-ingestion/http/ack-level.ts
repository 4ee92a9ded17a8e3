// `X-Ack: stored` with `X-Ack-Timeout`: how much a sender wants to be true before it hears of it.

import type { IncomingHttpHeaders } from 'node:http'
import { formatDuration, parseDuration } from '#platform/time'
import { Refusal } from '../protocols/protocol.ts'

export interface AckLevel {
  /** Answer when the entries are in the database, or when the time is up. */
  isStored: boolean
  timeoutMs: number
}

const timeoutMsDefault = 30_000
const timeoutMsMax = 60_000
const onDisk: AckLevel = { isStored: false, timeoutMs: 0 }

/** @throws Refusal */
export function ackLevelOf(headers: IncomingHttpHeaders): AckLevel {
  const level = headers['x-ack']
  if (level === undefined || level === 'disk') return onDisk
  if (level !== 'stored') throw malformed(`X-Ack is ${JSON.stringify(level)}; it can be disk or stored`)
  const timeout = headers['x-ack-timeout']
  return { isStored: true, timeoutMs: timeout === undefined ? timeoutMsDefault : timeoutOf(String(timeout)) }
}

function timeoutOf(text: string): number {
  let ms = Number.NaN
  try {
    ms = parseDuration(text.trim())
  } catch {
    // Said below.
  }
  if (!(ms > 0 && ms <= timeoutMsMax))
    throw malformed(
      `X-Ack-Timeout is ${JSON.stringify(text.slice(0, 60))}; give a duration up to ${formatDuration(timeoutMsMax)}, such as 10s`,
    )
  return ms
}

function malformed(detail: string): Refusal {
  return new Refusal({ kind: 'malformed', status: 400, detail })
}

import { z } from 'zod'
import type { UsageEvent } from '../events/cloud-event.ts'
import type { Sample } from '../samples/sample.ts'

// What was set aside is kept as the JSON it came in, for a person to look at. Here it becomes a fact's content again.

const digits = z
  .string()
  .regex(/^\d{1,20}$/)
  .default('0')
  .transform(BigInt)

const samplePayload = z.object({
  timestamp: z.object({ seconds: digits, nanos: z.number().int().default(0) }).optional(),
  cpuTimeNanos: digits,
  memoryUsageBytes: digits,
  diskReadBytes: digits,
  diskWriteBytes: digits,
  networkRxBytes: digits,
  networkTxBytes: digits,
})

const markPayload = z.object({
  mark: z.enum(['start', 'stop', 'gap']),
  atNs: digits,
  untilNs: z
    .string()
    .regex(/^\d{1,20}$/)
    .transform(BigInt)
    .nullable(),
})

/** Null: it does not say when it was measured, or nothing that could be a time. */
export function sampleOfAside(payload: string): Sample | null {
  const message = samplePayload.safeParse(parseExact(payload)).data
  if (message?.timestamp === undefined) return null
  const atNs = message.timestamp.seconds * 1_000_000_000n + BigInt(message.timestamp.nanos)
  if (atNs >= 2n ** 63n) return null
  return {
    atNs,
    cpuNs: message.cpuTimeNanos,
    memoryBytes: message.memoryUsageBytes,
    diskReadBytes: message.diskReadBytes,
    diskWriteBytes: message.diskWriteBytes,
    netRxBytes: message.networkRxBytes,
    netTxBytes: message.networkTxBytes,
  }
}

export function markOfAside(payload: string): z.output<typeof markPayload> | null {
  return markPayload.safeParse(parseExact(payload)).data ?? null
}

export function eventOfAside(payload: string): UsageEvent {
  const event = parseExact(payload) as Omit<UsageEvent, 'atNs'> & { atNs: string }
  return { ...event, atNs: BigInt(event.atNs) }
}

/** A number that JavaScript would round stays as it was written. */
function parseExact(payload: string): unknown {
  return JSON.parse(payload, (_, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' && context?.source !== undefined && String(value) !== context.source
      ? context.source
      : value,
  )
}

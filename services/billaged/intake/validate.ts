import { customerOf, type UsageEvent } from '../events/cloud-event.ts'
import { encodeParts } from '../samples/part.ts'
import type { Sample } from '../samples/sample.ts'
import type { Aside, AsideReason, Fact } from './record.ts'

// From decoded messages to facts. Everything a sender can get wrong is found here, before the first byte is written;
// everything behind it trusts the facts.

export class InvalidInput extends Error {
  override name = 'InvalidInput'
}

export interface Window {
  /** Wall clock at receipt. */
  nowNs: bigint
  maxFutureNs: bigint
  maxPastNs: bigint
}

/** The messages of the three proto packages, which have one body. */
export interface MetricsMessage {
  timestamp?: { seconds: bigint; nanos: number } | undefined
  cpuTimeNanos: bigint
  memoryUsageBytes: bigint
  diskReadBytes: bigint
  diskWriteBytes: bigint
  networkRxBytes: bigint
  networkTxBytes: bigint
}

export interface Accepted {
  facts: Fact[]
  accepted: number
  aside: Map<AsideReason, number>
}

/** The facts of a batch. `metrics` has at least one element; the identifiers were checked. */
export function batchFacts(
  customerId: string,
  vmId: string,
  metrics: readonly MetricsMessage[],
  window: Window,
): Accepted {
  const samples: Sample[] = []
  const asides: Fact[] = []
  const aside = new Map<AsideReason, number>()
  for (const [i, message] of metrics.entries()) {
    checkValues(message, i)
    const sample = toSample(message)
    const reason = message.timestamp === undefined ? 'no_timestamp' : doubt(sample.atNs, window)
    if (reason === null) {
      samples.push(sample)
      continue
    }
    aside.set(reason, (aside.get(reason) ?? 0) + 1)
    const payload = JSON.stringify(message, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))
    asides.push(asideFact({ what: 'sample', customerId, vmId, reason, receivedNs: window.nowNs, payload }))
  }
  const parts = encodeParts(samples).map((part): Fact => ({ kind: 'samples', customerId, vmId, part }))
  return { facts: [...parts, ...asides], accepted: samples.length, aside }
}

export function eventFacts(events: readonly UsageEvent[], window: Window): Accepted {
  const facts: Fact[] = []
  const aside = new Map<AsideReason, number>()
  let accepted = 0
  for (const event of events) {
    const reason = doubt(event.atNs, window)
    if (reason === null) {
      accepted++
      facts.push({ kind: 'event', event, receivedNs: window.nowNs })
      continue
    }
    aside.set(reason, (aside.get(reason) ?? 0) + 1)
    const payload = JSON.stringify({ ...event, atNs: `${event.atNs}` })
    const customerId = customerOf(event)
    facts.push(asideFact({ what: 'event', customerId, vmId: null, reason, receivedNs: window.nowNs, payload }))
  }
  return { facts, accepted, aside }
}

/** A notice outside the window waits for a person, as samples do: a VM that began in 1970 has half a million hours. */
export function markFacts(mark: Omit<Extract<Fact, { kind: 'mark' }>, 'kind'>, window: Window): Accepted {
  const { atNs, untilNs, customerId, vmId } = mark
  const reason = doubt(atNs, window) ?? (untilNs === null ? null : doubt(untilNs, window))
  if (reason === null) return { facts: [{ kind: 'mark', ...mark }], accepted: 1, aside: new Map() }
  const payload = JSON.stringify({ mark: mark.mark, atNs: `${atNs}`, untilNs: untilNs === null ? null : `${untilNs}` })
  const fact = asideFact({ what: 'mark', customerId, vmId, reason, receivedNs: window.nowNs, payload })
  return { facts: [fact], accepted: 0, aside: new Map([[reason, 1]]) }
}

/** Reasons and counts as they ride in a response header: `3; reason=too_old, 1; reason=before_2000`. */
export function describeAside(aside: ReadonlyMap<AsideReason, number>): string {
  return [...aside].map(([reason, count]) => `${count}; reason=${reason}`).join(', ')
}

/** 1–255 bytes of UTF-8 without control characters. */
export function checkId(value: string, field: string): string {
  if (value === '') throw new InvalidInput(`${field} is required`)
  const bytes = Buffer.byteLength(value)
  if (bytes > idBytesMax) throw new InvalidInput(`${field} has ${bytes} bytes; at most ${idBytesMax}`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f]/.test(value) || !value.isWellFormed())
    throw new InvalidInput(`${field} holds a control character or half a surrogate pair`)
  return value
}

/** Unix time in the unit its size tells: existing command lines send seconds where nanoseconds are meant. */
export function toUnixNs(value: bigint, field: string): bigint {
  if (value === 0n) throw new InvalidInput(`${field} is required, in Unix nanoseconds`)
  if (value < 0n) throw new InvalidInput(`${field} is ${value}; times are Unix nanoseconds above 0`)
  if (value < 10n ** 11n) return value * 1_000_000_000n
  if (value < 10n ** 14n) return value * 1_000_000n
  if (value < 10n ** 17n) return value * 1_000n
  return value
}

const idBytesMax = 255
/** 2000-01-01T00:00:00Z: before it a clock was never set. */
const year2000Ns = 946_684_800_000_000_000n

function checkValues(message: MetricsMessage, i: number) {
  for (const [field, name] of counters) {
    if (message[field] < 0n)
      throw new InvalidInput(`metrics[${i}].${name} is ${message[field]}; counters are 0 or more`)
  }
  const nanos = message.timestamp?.nanos ?? 0
  if (nanos < 0 || nanos > 999_999_999)
    throw new InvalidInput(`metrics[${i}].timestamp.nanos is ${nanos}; nanos are 0…999999999`)
}

const counters = [
  ['cpuTimeNanos', 'cpu_time_nanos'],
  ['memoryUsageBytes', 'memory_usage_bytes'],
  ['diskReadBytes', 'disk_read_bytes'],
  ['diskWriteBytes', 'disk_write_bytes'],
  ['networkRxBytes', 'network_rx_bytes'],
  ['networkTxBytes', 'network_tx_bytes'],
] as const

function toSample(message: MetricsMessage): Sample {
  const { seconds = 0n, nanos = 0 } = message.timestamp ?? {}
  return {
    atNs: seconds * 1_000_000_000n + BigInt(nanos),
    cpuNs: message.cpuTimeNanos,
    memoryBytes: message.memoryUsageBytes,
    diskReadBytes: message.diskReadBytes,
    diskWriteBytes: message.diskWriteBytes,
    netRxBytes: message.networkRxBytes,
    netTxBytes: message.networkTxBytes,
  }
}

function doubt(atNs: bigint, { nowNs, maxFutureNs, maxPastNs }: Window): AsideReason | null {
  if (atNs < year2000Ns) return 'before_2000'
  if (atNs > nowNs + maxFutureNs) return 'too_far_ahead'
  if (atNs < nowNs - maxPastNs) return 'too_old'
  return null
}

/** A sample as the message that it came in, for a person to look at. */
export function samplePayload(sample: Sample): string {
  return JSON.stringify({
    timestamp: { seconds: `${sample.atNs / 1_000_000_000n}`, nanos: Number(sample.atNs % 1_000_000_000n) },
    cpuTimeNanos: `${sample.cpuNs}`,
    memoryUsageBytes: `${sample.memoryBytes}`,
    diskReadBytes: `${sample.diskReadBytes}`,
    diskWriteBytes: `${sample.diskWriteBytes}`,
    networkRxBytes: `${sample.netRxBytes}`,
    networkTxBytes: `${sample.netTxBytes}`,
  })
}

function asideFact(aside: Aside): Fact {
  return { kind: 'aside', aside }
}

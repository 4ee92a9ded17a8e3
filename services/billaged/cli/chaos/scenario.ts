// VMs whose true use is known, and what a bad day does to their readings on the way. A function of the seed alone.

export const faults = [
  'none',
  'duplicate',
  'reorder',
  'lost_reply',
  'resplit',
  'clock_skew',
  'restart',
  'crash',
  'gap',
  'all',
] as const
export type Fault = (typeof faults)[number]

export const meters = ['vm_cpu', 'vm_disk_read', 'vm_disk_write', 'vm_net_rx', 'vm_net_tx'] as const
export type Amounts = bigint[]

export interface ChaosReading {
  atNs: bigint
  /** In the order of `meters`. */
  counters: Amounts
}

export type Message =
  | { kind: 'start' | 'stop'; vmId: string; atNs: bigint }
  | { kind: 'batch'; vmId: string; readings: ChaosReading[] }

export interface Scenario {
  seed: number
  fault: Fault
  /** In the order of sending. */
  messages: Message[]
  /** What was used while readings could show it, from the start of each VM to its last reading. */
  truth: Amounts
  /** The part of it that lies where no pair of readings proves it: dropped readings, and around unannounced restarts. */
  unproven: Amounts
  fromNs: bigint
  toNs: bigint
}

const stepNs = 60_000_000_000n
const readingsPerVm = 90
const ratesPerS: Amounts = [700_000_000n, 40_000n, 90_000n, 1_500n, 64_000n]

export function makeScenario(seed: number, fault: Fault, endNs: bigint): Scenario {
  const random = generator(seed)
  const pick = (low: number, high: number) => low + Math.floor(random() * (high - low + 1))
  const has = (name: Fault) => fault === name || fault === 'all'
  const truth = meters.map(() => 0n)
  const unproven = meters.map(() => 0n)
  const baseNs = endNs - BigInt(readingsPerVm + 20) * stepNs
  const streams: Message[][] = []

  for (let vm = 0; vm < 3; vm++) {
    const vmId = `vm-${vm}`
    const skewNs = has('clock_skew') ? BigInt(pick(-45_000, 45_000)) * 1_000_000n : 0n
    const startNs = baseNs + BigInt(pick(0, 59)) * 1_000_000_000n
    const restartAt = has('restart') ? pick(20, 30) : -1
    const crashAt = has('crash') ? pick(45, 55) : -1
    const gapFrom = has('gap') ? pick(70, 75) : -1
    const gapTo = gapFrom < 0 ? -1 : gapFrom + pick(4, 9)
    const stream: Message[] = [{ kind: 'start', vmId, atNs: startNs + skewNs }]
    let counters = meters.map(() => 0n)
    let atNs = startNs
    let pending: ChaosReading[] = []
    const flush = () => {
      if (pending.length > 0) stream.push({ kind: 'batch', vmId, readings: pending })
      pending = []
    }
    const run = (forNs: bigint, isUnproven: boolean) => {
      const loadPpm = BigInt(pick(50_000, 1_000_000))
      for (const [m, rate] of ratesPerS.entries()) {
        const used = (rate * forNs * loadPpm) / 1_000_000_000_000_000n
        counters[m] = (counters[m] ?? 0n) + used
        truth[m] = (truth[m] ?? 0n) + used
        if (isUnproven) unproven[m] = (unproven[m] ?? 0n) + used
      }
      atNs += forNs
    }
    const read = () => void pending.push({ atNs: atNs + skewNs, counters: [...counters] })

    for (let n = 1; n <= readingsPerVm; n++) {
      const isInGap = n > gapFrom && n <= gapTo
      if (n === crashAt) {
        // Nobody says so: the counters begin anew between two readings.
        run(stepNs / 3n, true)
        counters = meters.map(() => 0n)
        run((stepNs * 2n) / 3n, true)
      } else run(stepNs, isInGap)
      if (!isInGap || n === gapTo) read()
      if (n === restartAt) {
        flush()
        stream.push({ kind: 'stop', vmId, atNs: atNs + skewNs })
        atNs += stepNs / 4n
        stream.push({ kind: 'start', vmId, atNs: atNs + skewNs })
        counters = meters.map(() => 0n)
      }
      if (pending.length >= pick(1, 12)) flush()
    }
    flush()
    streams.push(disturb(stream, has, pick))
  }
  return {
    seed,
    fault,
    messages: interleave(streams, pick),
    truth,
    unproven,
    fromNs: baseNs - stepNs,
    toNs: endNs,
  }
}

/** What the network and the senders make of one VM's messages. Nothing here changes what was read. */
function disturb(
  stream: Message[],
  has: (fault: Fault) => boolean,
  pick: (low: number, high: number) => number,
): Message[] {
  let out = stream
  // The reply was lost: the sender sends the same again at once, or after the next ones.
  if (has('lost_reply')) out = out.flatMap(message => (pick(1, 4) === 1 ? [message, message] : [message]))
  if (has('duplicate')) {
    const again = out.filter(() => pick(1, 3) === 1)
    for (const message of again) out = out.toSpliced(pick(0, out.length), 0, message)
  }
  // A sender that kept what it was not sure of sends it again, cut differently.
  if (has('resplit')) {
    const readings = out.flatMap(message => (message.kind === 'batch' ? message.readings : []))
    const [from, length] = [pick(0, readings.length - 2), pick(2, 40)]
    const [vmId] = out.map(message => message.vmId)
    if (vmId !== undefined) out = [...out, { kind: 'batch', vmId, readings: readings.slice(from, from + length) }]
  }
  if (has('reorder'))
    out = out
      .map((message, i) => ({ message, order: i + pick(0, 15) }))
      .toSorted((a, b) => a.order - b.order)
      .map(({ message }) => message)
  return out
}

function interleave(streams: Message[][], pick: (low: number, high: number) => number): Message[] {
  const rest = streams.map(stream => [...stream])
  const out: Message[] = []
  for (;;) {
    const alive = rest.filter(stream => stream.length > 0)
    const next = alive[pick(0, alive.length - 1)]?.shift()
    if (next === undefined) return out
    out.push(next)
  }
}

/** mulberry32: small, seeded, good enough to shuffle with. */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let x = Math.imul(state ^ (state >>> 15), state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}

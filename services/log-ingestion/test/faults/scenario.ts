// What happens in one run, decided by its seed alone.

import type { CommitFate } from '../tcp-proxy.ts'
import { createRandom, type Random } from './random.ts'

export const faultKinds = [
  'kill',
  'kill in COMMIT',
  'COMMIT cut',
  'database away',
  'database silent',
  'database crash',
  'disk full',
  'poison',
  'restart',
] as const
export type FaultKind = (typeof faultKinds)[number]

export interface Fault {
  kind: FaultKind
  /** Share of the requests that are acknowledged when it happens. */
  at: number
  /** After that moment. */
  delayMs: number
  /** How long it lasts, where that is a matter of time. */
  holdMs: number
  /** Whose process or way to the database, where there are two. */
  replica: number
  commits: readonly CommitFate[]
}

export interface Scenario {
  run: number
  sink: 'rows' | 'columnar'
  replicas: 1 | 2
  faults: readonly Fault[]
  requests: number
  senders: number
  batchRows: number
  flushIntervalMs: number
  random: Random
}

/** Runs of one seed go through all kinds of faults in turn, on one sink and then on the other, and add more by chance. */
export function scenarioOf(
  seed: number,
  run: number,
  o: { sink?: Scenario['sink'] | undefined; kinds?: readonly FaultKind[]; requests?: number } = {},
): Scenario {
  const random = createRandom(Math.imul(seed, 2_654_435_761) + Math.imul(run, 40_503))
  const first = faultKinds[Math.floor(run / 2) % faultKinds.length] ?? 'kill'
  // Half of the runs are about one fault alone, so that a failure is easy to read.
  const more = random.pick([0, 0, 1, 2])
  const kinds = o.kinds ?? [first, ...Array.from({ length: more }, () => random.pick(faultKinds))]
  const replicas = random.chance(0.25) && !kinds.includes('disk full') ? 2 : 1
  return {
    run,
    sink: o.sink ?? (run % 2 === 0 ? 'rows' : 'columnar'),
    replicas,
    faults: kinds.flatMap(kind => faultsOf(kind, replicas, random)).sort((a, b) => a.at - b.at),
    requests: o.requests ?? random.between(120, 320),
    senders: random.between(3, 6),
    batchRows: random.pick([1, 50, 400, 5_000]),
    flushIntervalMs: random.pick([5, 30, 120]),
    random,
  }
}

function faultsOf(kind: FaultKind, replicas: number, random: Random): Fault[] {
  const count = kind === 'kill' || kind === 'kill in COMMIT' ? random.between(1, 2) : 1
  return Array.from({ length: count }, () => ({
    kind,
    at: 0.05 + random.share() * 0.8,
    delayMs: random.chance(0.5) ? 0 : random.below(40),
    holdMs: random.between(150, 900),
    replica: random.below(replicas),
    commits: Array.from({ length: kind === 'kill in COMMIT' ? 1 : random.between(1, 4) }, () =>
      random.pick<CommitFate>(['delivered', 'lost', 'late']),
    ),
  }))
}

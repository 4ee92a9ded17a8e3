// What `start(config, base)` wants beside its configuration, for tests: silent, fresh, on the system clock.

import type { TestContext } from 'node:test'
import type { Base } from '#platform/lifecycle'
import { createLog, createRegistry } from '#platform/telemetry'
import { type Clock, systemClock } from '#platform/time'

/** Log lines go nowhere unless PURSER_TEST_LOG=1, or to `lines` when the test wants to read them. */
export function testBase(t: TestContext, o: { clock?: Clock; lines?: string[] } = {}): Base {
  const { lines } = o
  const isLoud = process.env.PURSER_TEST_LOG === '1'
  const log = createLog({
    service: t.name.slice(0, 40),
    level: isLoud || lines ? 'debug' : 'silent',
    format: 'json',
    ...(lines ? { destination: { write: (line: string) => void lines.push(line) } } : {}),
  })
  return {
    log,
    registry: createRegistry({ service: 'test', version: '0.0.0' }),
    clock: o.clock ?? systemClock,
    version: '0.0.0',
  }
}

/** A clock that moves only when told. */
export function drivenClock(
  startMs = Date.UTC(2026, 0, 15, 12),
): Clock & { advance(ms: number): void; step(ms: number): void } {
  let wallMs = startMs
  let monotonicMs = 0
  return {
    now: () => wallMs,
    monotonicMs: () => monotonicMs,
    /** Time passes on both clocks. */
    advance(ms) {
      wallMs += ms
      monotonicMs += ms
    },
    /** The wall clock is set, as NTP or an operator would. */
    step(ms) {
      wallMs += ms
    },
  }
}

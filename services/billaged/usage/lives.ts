import type { Marks } from './fold.ts'

/** From a start mark, or the first reading, to the stop mark, or the last evidence (G20). */
export interface Life {
  startNs: bigint
  /** Null while it may still run. */
  stopNs: bigint | null
  endBy: 'open' | 'stop' | 'lease'
}

/** Takes the times of readings in order, and says which lives they and the marks make. */
export function createLives(marks: Marks, o: { nowNs: bigint; leaseNs: bigint }) {
  /** First and last reading between one start mark and the next; before the first mark for 0. */
  const seen = [undefined, ...marks.starts].map((): { firstNs: bigint; lastNs: bigint } | null => null)
  let at = 0
  return {
    read(atNs: bigint) {
      for (let next = marks.starts[at]; next !== undefined && next <= atNs; next = marks.starts[at]) at++
      const span = seen[at] ?? null
      seen[at] = span === null ? { firstNs: atNs, lastNs: atNs } : { ...span, lastNs: atNs }
    },
    /** `listedUntilNs`: the end of the last lease a host gave, if any. */
    finish(listedUntilNs: bigint | null): Life[] {
      const lives: Life[] = []
      for (const [i, span] of seen.entries()) {
        const mark = i === 0 ? undefined : marks.starts[i - 1]
        const nextStart = marks.starts[i]
        const startNs = mark ?? span?.firstNs
        // A start repeated while the VM ran, without a stop or a reading between, begins no other life.
        if (startNs === undefined || (mark !== undefined && span === null && nextStart !== undefined)) continue
        const before = lives.at(-1)
        const stop = marks.stops.find(ns => ns >= startNs && (nextStart === undefined || ns <= nextStart))
        if (before !== undefined && before.endBy !== 'stop' && mark !== undefined) before.stopNs ??= startNs
        const evidenceNs = later(span?.lastNs ?? startNs, nextStart === undefined ? listedUntilNs : null)
        const isOpen = stop === undefined && nextStart === undefined && evidenceNs + o.leaseNs >= o.nowNs
        lives.push({
          startNs,
          stopNs: stop ?? (isOpen ? null : evidenceNs),
          endBy: stop !== undefined ? 'stop' : isOpen ? 'open' : 'lease',
        })
      }
      return lives
    },
  }
}

function later(a: bigint, b: bigint | null): bigint {
  return b !== null && b > a ? b : a
}

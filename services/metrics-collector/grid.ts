// When each source is due: a grid of its own interval from the start of the process, on the monotonic clock.
// A tick that could not happen is counted and never made up, and nothing that is slow moves the grid.

export interface Due {
  /** What to read now. */
  names: string[]
  /** Grid points that passed without a tick since the last one, over all sources. */
  missed: number
}

export function openGrid(startMs: number, intervalsMs: ReadonlyMap<string, number>) {
  const nextIndex = new Map([...intervalsMs.keys()].map(name => [name, 0]))

  return {
    due(nowMs: number): Due {
      const due: Due = { names: [], missed: 0 }
      for (const [name, intervalMs] of intervalsMs) {
        const next = nextIndex.get(name) ?? 0
        const reached = Math.floor((nowMs - startMs) / intervalMs)
        if (reached < next) continue
        due.names.push(name)
        due.missed += reached - next
        nextIndex.set(name, reached + 1)
      }
      return due
    },
    /** The monotonic time of the next grid point of any source. */
    nextMs(): number {
      let next = Number.POSITIVE_INFINITY
      for (const [name, intervalMs] of intervalsMs)
        next = Math.min(next, startMs + (nextIndex.get(name) ?? 0) * intervalMs)
      return next
    },
  }
}

import type { Amounts, Message } from './scenario.ts'
import { meters } from './scenario.ts'

// What billaged replaces, for comparison: counters are subtracted as they arrive, and only the last one is remembered.
// A smaller value is taken for a reset, so a batch that comes twice is billed nearly twice.

export function createDeltaBiller() {
  const billed: Amounts = meters.map(() => 0n)
  let last = new Map<string, Amounts>()
  return {
    billed,
    receive(message: Message) {
      if (message.kind === 'start')
        last.set(
          message.vmId,
          meters.map(() => 0n),
        )
      if (message.kind === 'stop') last.delete(message.vmId)
      if (message.kind !== 'batch') return
      for (const { counters } of message.readings) {
        const before = last.get(message.vmId)
        for (const [m, value] of counters.entries()) {
          const from = before?.[m]
          if (from !== undefined) billed[m] = (billed[m] ?? 0n) + (value >= from ? value - from : value)
        }
        last.set(message.vmId, counters)
      }
    },
    /** Its memory is all it has. */
    restart() {
      last = new Map()
    },
  }
}

import type { Meter } from './meter.ts'

/** The meters in force, as one list that everybody who meters holds. */
export interface MeterList {
  readonly meters: Meter[]
  /** Reads them again. What was stored before the call is in the list when it resolves. */
  reload(): Promise<void>
}

/** One read at a time: of two that overlap the older could come last, or leave a meter in the list twice, and what it
 *  meters would be billed twice. */
export async function openMeterList(load: () => Promise<readonly Meter[]>): Promise<MeterList> {
  const meters = [...(await load())]
  let last: Promise<unknown> = Promise.resolve()
  return {
    meters,
    reload() {
      const next = last.then(async () => {
        const read = await load()
        meters.splice(0, meters.length, ...read)
      })
      last = next.catch(() => {})
      return next
    },
  }
}

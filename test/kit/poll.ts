// Waiting for an event with a deadline, instead of sleeping and hoping.

/** Resolves to the first truthy answer; rejects, naming `what`, when the deadline passes. A throwing probe counts as "not yet". */
export async function pollUntil<T>(
  probe: () => T | Promise<T>,
  o: { timeoutMs?: number; everyMs?: number; what: string },
): Promise<Exclude<T, false | undefined | null>> {
  const timeoutMs = o.timeoutMs ?? 60_000
  const deadlineMs = performance.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const answer = await probe()
      if (answer) return answer as Exclude<T, false | undefined | null>
      last = undefined
    } catch (error) {
      last = error
    }
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs} ms for ${o.what} in vain`, { cause: last })
    await new Promise(resolve => setTimeout(resolve, o.everyMs ?? 50))
  }
}

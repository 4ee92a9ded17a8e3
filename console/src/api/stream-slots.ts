// A browser opens six connections to one origin over HTTP/1.1, all windows together, and a stream holds one for good.
// Two windows with three streams each would leave none for anything else, and every page would hang without a word. So
// all windows of the console share four slots for streams; a stream without a slot waits and says why.

const slotsMax = 4

/** A function that gives the slot back, or null when all are taken. */
export async function takeStreamSlot(): Promise<(() => void) | null> {
  // Locks exist on https and localhost only; elsewhere we do without the guard.
  if (!('locks' in navigator)) return () => {}
  for (let n = 0; n < slotsMax; n++) {
    const release = await tryLock(`purser-stream-${n}`)
    if (release) return release
  }
  return null
}

/** The lock is held as long as the promise given to the browser is pending; closing the window frees it by itself. */
function tryLock(name: string): Promise<(() => void) | null> {
  return new Promise(resolve => {
    navigator.locks
      .request(name, { ifAvailable: true }, lock => {
        if (lock) return new Promise<void>(done => resolve(done))
        resolve(null)
      })
      .catch(() => resolve(() => {}))
  })
}

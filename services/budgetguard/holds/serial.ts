// One thing at a time, in the order asked for.

export interface Serial {
  run<T>(work: () => Promise<T>): Promise<T>
}

export function createSerial(): Serial {
  let last: Promise<unknown> = Promise.resolve()
  return {
    run(work) {
      const next = last.then(work, work)
      last = next.catch(() => undefined)
      return next
    },
  }
}

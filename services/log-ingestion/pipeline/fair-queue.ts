// Items of many keys, taken out by deficit round robin: equal bytes for each key that has some, in order within a key.

export interface FairQueue<T> {
  readonly length: number
  push(key: string, bytes: number, item: T): void
  /** The next ones, at least one, at most so many bytes and so many of them. */
  take(bytesMax: number, countMax: number): T[]
}

const quantumBytes = 64 * 1024

interface Line<T> {
  items: { bytes: number; item: T }[]
  /** Items before it are gone. */
  head: number
  deficit: number
}

export function createFairQueue<T>(): FairQueue<T> {
  /** In the order in which they are served. */
  const lines = new Map<string, Line<T>>()
  let length = 0
  return {
    get length() {
      return length
    },
    push(key, bytes, item) {
      const line = lines.get(key)
      if (line) line.items.push({ bytes, item })
      else lines.set(key, { items: [{ bytes, item }], head: 0, deficit: 0 })
      length++
    },
    take(bytesMax, countMax) {
      const taken: T[] = []
      let bytes = 0
      for (;;) {
        for (const [key, line] of lines) {
          const isAlone = lines.size === 1
          line.deficit += quantumBytes
          for (let next = line.items[line.head]; next; next = line.items[line.head]) {
            if (taken.length > 0 && (bytes + next.bytes > bytesMax || taken.length === countMax)) return taken
            if (!isAlone && next.bytes > line.deficit) break
            line.deficit -= next.bytes
            bytes += next.bytes
            taken.push(next.item)
            line.head++
            length--
          }
          // Who has nothing waiting saves nothing up; who has goes behind the others.
          lines.delete(key)
          if (line.head === line.items.length) continue
          if (isAlone) line.deficit = 0
          lines.set(key, compacted(line))
        }
        if (lines.size === 0) return taken
      }
    },
  }
}

function compacted<T>(line: Line<T>): Line<T> {
  if (line.head < 1_024) return line
  return { ...line, items: line.items.slice(line.head), head: 0 }
}

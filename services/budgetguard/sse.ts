// Server-sent events as bytes: where each event ends, and what its data is. Bytes are never rewritten.

const lf = 0x0a
const cr = 0x0d

/** A stream that sends more than this without a blank line is not sending events. */
export const eventBytesMax = 16 * 1024 * 1024

export class SseSplitter {
  #pending: Buffer = Buffer.alloc(0)
  #scanned = 0
  #isLineEmpty = true
  /** The last byte of the last chunk was a CR: a LF that comes next belongs to it. */
  #isAfterCr = false

  /**
   * The events completed by this chunk, each with its terminating blank line, in order.
   * @throws RangeError when one event grows past `eventBytesMax`
   */
  push(chunk: Buffer): Buffer[] {
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    const events: Buffer[] = []
    let start = 0
    let i = this.#scanned
    while (i < bytes.length) {
      const byte = bytes[i]
      if (byte !== lf && byte !== cr) {
        this.#isLineEmpty = false
        i = nextBreak(bytes, i + 1)
        continue
      }
      if (this.#isAfterCr && byte === lf && i === this.#scanned) {
        i += 1
        continue
      }
      // CR LF is one break. A CR that ends the chunk counts at once, because nothing else may ever come.
      i += byte === cr && bytes[i + 1] === lf ? 2 : 1
      if (this.#isLineEmpty) {
        events.push(bytes.subarray(start, i))
        start = i
      }
      this.#isLineEmpty = true
    }
    if (chunk.length > 0) this.#isAfterCr = bytes[bytes.length - 1] === cr
    this.#pending = bytes.subarray(start)
    this.#scanned = this.#pending.length
    if (this.#pending.length > eventBytesMax)
      throw new RangeError(`an event of the stream is longer than ${eventBytesMax} bytes`)
    return events
  }

  /** What came after the last whole event. */
  rest(): Buffer {
    return this.#pending
  }
}

function nextBreak(bytes: Buffer, from: number): number {
  for (let i = from; i < bytes.length; i++) if (bytes[i] === lf || bytes[i] === cr) return i
  return bytes.length
}

/** The event's `data:` lines joined by line feeds; null for comments and empty events. */
export function eventData(event: Buffer): string | null {
  const data: string[] = []
  for (const line of event.toString('utf8').split(/\r\n|\n|\r/)) {
    if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5))
  }
  return data.length === 0 ? null : data.join('\n')
}

// RFC 6587: how messages follow each other on a stream, counted in octets or ended by a line feed.
//
// Which of the two a sender does is decided by its first byte and holds for the connection. What is beyond the longest
// frame is skipped and counted, so a sender that never ends a line costs no memory.

import { Buffer } from 'node:buffer'

export interface Frame {
  bytes: Buffer
  /** Of the message, not kept. */
  lostBytes: number
}

const countDigitsMax = 9

export class FrameReader {
  readonly #frameBytesMax: number
  #isCounted: boolean | undefined
  #held: Buffer[] = []
  #heldBytes = 0
  #lostBytes = 0
  /** Of the counted frame begun: octets still to come. */
  #left = 0
  #digits = ''

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax
  }

  /** The frames that `chunk` completes. */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = []
    let at = 0
    while (at < chunk.length) {
      this.#isCounted ??= isDigit(chunk[at] as number)
      at = this.#isCounted ? this.#counted(chunk, at, frames) : this.#line(chunk, at, frames)
    }
    return frames
  }

  /** The line that was not ended, when the sender is gone; a cut counted frame is whole as far as it came. */
  end(): Frame[] {
    const frames: Frame[] = []
    if (this.#heldBytes > 0) this.#complete(frames)
    return frames
  }

  #counted(chunk: Buffer, from: number, frames: Frame[]): number {
    let at = from
    if (this.#left === 0) {
      const byte = chunk[at] as number
      // Some senders end counted frames with a line feed all the same.
      if (this.#digits === '' && (byte === 0x0a || byte === 0x0d || byte === 0x00)) return at + 1
      if (isDigit(byte) && this.#digits.length < countDigitsMax) {
        this.#digits += String.fromCharCode(byte)
        return at + 1
      }
      const count = Number(this.#digits)
      if (byte !== 0x20 || count === 0) {
        // Lost the thread: from here on line feeds are all there is to go by.
        this.#isCounted = false
        this.#keep(Buffer.from(this.#digits))
        this.#digits = ''
        return at
      }
      this.#digits = ''
      this.#left = count
      at++
    }
    const end = Math.min(chunk.length, at + this.#left)
    this.#keep(chunk.subarray(at, end))
    this.#left -= end - at
    if (this.#left === 0) this.#complete(frames)
    return end
  }

  #line(chunk: Buffer, at: number, frames: Frame[]): number {
    const feed = chunk.indexOf(0x0a, at)
    const end = feed < 0 ? chunk.length : feed
    this.#keep(chunk.subarray(at, end))
    if (feed >= 0) this.#complete(frames)
    return end + 1
  }

  #keep(bytes: Buffer): void {
    const kept = bytes.subarray(0, this.#frameBytesMax - this.#heldBytes)
    this.#lostBytes += bytes.length - kept.length
    if (kept.length === 0) return
    this.#held.push(kept)
    this.#heldBytes += kept.length
  }

  #complete(frames: Frame[]): void {
    const bytes = Buffer.concat(this.#held, this.#heldBytes)
    if (bytes.length > 0) frames.push({ bytes, lostBytes: this.#lostBytes })
    this.#held = []
    this.#heldBytes = 0
    this.#lostBytes = 0
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}

// Frames travel through the intake as one body.

/** u32 bytes · u32 lost bytes · the message */
export function packFrames(frames: readonly Frame[]): Buffer {
  const body = Buffer.allocUnsafe(frames.reduce((sum, { bytes }) => sum + 8 + bytes.length, 0))
  let at = 0
  for (const { bytes, lostBytes } of frames) {
    at = body.writeUInt32LE(bytes.length, at)
    at = body.writeUInt32LE(Math.min(lostBytes, 0xffff_ffff), at)
    at += bytes.copy(body, at)
  }
  return body
}

export function* unpackFrames(body: Buffer): Generator<Frame> {
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32LE(at)
    yield { bytes: body.subarray(at + 8, at + 8 + length), lostBytes: body.readUInt32LE(at + 4) }
    at += 8 + length
  }
}

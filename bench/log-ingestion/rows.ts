// The rows of the specification, made faster than a service can take them: bodies are written once by a seeded generator, and
// per send only times and request ids change in place. A request id stands for its row's number, so that every row can be
// recognised when it is read back.

import { Buffer } from 'node:buffer'

export interface Row {
  message: string
  metadata: {
    request_id: string
    user_id: string
    path: string
    status: number
    duration_ms: number
    region: string
  }
}

const idText = 'f'.repeat(16)
const timeText = '2000-01-01T00:00:00.000Z'
/** Stand for digits that every send makes anew; nothing else in a row looks like them. */
const pathText = '99999'
const durationText = '888'
const userText = '77777'
const regions = ['eu-west-1', 'eu-central-1', 'us-east-1']

interface Body {
  bytes: Buffer
  rows: number
  times: number[]
  /** Two places per row: in the message and in the metadata. */
  ids: number[]
  /** Places of digits that change, each twice per row in the same way: path, duration, user. */
  digits: { places: number[]; count: number }[]
  isFree: boolean
}

/** Bodies of a batch of so many rows, as the native route takes them or as JSON lines; rows get the next numbers. */
export function createBodies(
  rowsPerBody: number,
  format: BodyFormat = 'native',
): { next(): Buffer; release(body: Buffer): void } {
  const random = generator(42)
  const bodies: Body[] = Array.from({ length: 24 }, () => makeBody(rowsPerBody, format, random))
  return {
    next() {
      let body = bodies.find(candidate => candidate.isFree)
      if (!body) {
        body = makeBody(rowsPerBody, format, random)
        bodies.push(body)
      }
      body.isFree = false
      const now = Buffer.from(new Date().toISOString(), 'latin1')
      for (let row = 0; row < body.rows; row++) {
        now.copy(body.bytes, body.times[row] as number)
        writeId(body.bytes, body.ids[row * 2] as number, body.ids[row * 2 + 1] as number, numbers.made++)
        for (const { places: at, count } of body.digits)
          writeDigits(body.bytes, at[row * 2] as number, at[row * 2 + 1] as number, count, random())
      }
      return body.bytes
    },
    release(bytes) {
      for (const body of bodies) if (body.bytes === bytes) body.isFree = true
    },
  }
}

export const numbers = { made: 0 }

export type BodyFormat = 'native' | 'lines'

function makeBody(rows: number, format: BodyFormat, random: () => number): Body {
  const texts = Array.from({ length: rows }, (_, i) => makeRow(i, random))
  const bytes = Buffer.from(format === 'lines' ? `${texts.join('\n')}\n` : `{"logs":[${texts.join(',')}]}`)
  return {
    bytes,
    rows,
    times: places(bytes, timeText),
    ids: places(bytes, idText),
    digits: [pathText, durationText, userText].map(text => ({ places: places(bytes, text), count: text.length })),
    isFree: true,
  }
}

function makeRow(i: number, random: () => number): string {
  const roll = random()
  const level = roll < 0.6 ? 'INFO' : roll < 0.8 ? 'WARN' : roll < 0.9 ? 'DEBUG' : 'ERROR'
  const status = [200, 200, 200, 201, 204, 304, 404, 500, 503][Math.floor(random() * 9)]
  const durationMs = Number(durationText)
  const user = `u${userText}`
  const method = ['GET', 'GET', 'GET', 'POST', 'PUT'][Math.floor(random() * 5)]
  const path = `/api/v1/${['items', 'orders', 'users'][Math.floor(random() * 3)]}/${pathText}`
  const ip = `10.${Math.floor(random() * 4)}.${Math.floor(random() * 250)}.${Math.floor(random() * 250)}`
  const message = `${method} ${path} ${status} ${durationMs}ms user=${user} ip=${ip} request_id=${idText} upstream=app-${Math.floor(random() * 12)}.internal:8080`
  return JSON.stringify({
    timestamp: timeText,
    service: `service-${i % 12}`,
    level,
    message,
    metadata: {
      request_id: idText,
      user_id: user,
      path,
      status,
      duration_ms: durationMs,
      region: regions[Math.floor(random() * 3)],
    },
  })
}

function places(bytes: Buffer, text: string): number[] {
  const found: number[] = []
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + text.length)) found.push(at)
  return found
}

function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) / 2 ** 24
  }
}

/** Odd: multiplying by it permutes the 32-bit numbers, and looks like chance to a compressor. */
const spread = 0x9e3779b1
const otherSpread = 0x85ebca6b
const digits = Buffer.from('0123456789abcdef')

function writeId(bytes: Buffer, first: number, second: number, n: number): void {
  const high = Math.imul(n ^ 0x5bd1e995, otherSpread)
  const low = Math.imul(n, spread)
  for (let i = 0; i < 8; i++) {
    const shift = 28 - i * 4
    const a = digits[(high >>> shift) & 15] as number
    const b = digits[(low >>> shift) & 15] as number
    bytes[first + i] = a
    bytes[second + i] = a
    bytes[first + 8 + i] = b
    bytes[second + 8 + i] = b
  }
}

/** The first digit is never 0: a number would lose it. */
function writeDigits(bytes: Buffer, first: number, second: number, count: number, chance: number): void {
  let rest = Math.floor(chance * 9 * 10 ** (count - 1)) + 10 ** (count - 1)
  for (let i = count - 1; i >= 0; i--) {
    const next = Math.floor(rest / 10)
    const digit = 0x30 + rest - next * 10
    bytes[first + i] = digit
    bytes[second + i] = digit
    rest = next
  }
}

const unspread = inverse(spread)

/** The number of the row with this id. */
export function numberOf(id: string): number {
  return Math.imul(Number.parseInt(id.slice(8), 16), unspread) >>> 0
}

/** Newton's iteration: each round doubles the digits that are right. */
function inverse(odd: number): number {
  let x = odd
  for (let i = 0; i < 5; i++) x = Math.imul(x, 2 - Math.imul(odd, x))
  return x
}

/** What the message says must be what the metadata says. */
export function isWhole({ message, metadata: m }: Row): boolean {
  return (
    message.includes(` ${m.path} ${m.status} ${m.duration_ms}ms user=${m.user_id} ip=`) &&
    message.includes(` request_id=${m.request_id} upstream=`) &&
    regions.includes(m.region)
  )
}

// Ids of notices: 48 bits of time and 80 random ones, in Crockford's base 32; they sort by time as text.

import { randomBytes } from 'node:crypto'

const digits = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

export function ulid(nowMs: number): string {
  let value = (BigInt(nowMs) << 80n) | BigInt(`0x${randomBytes(10).toString('hex')}`)
  let text = ''
  for (let i = 0; i < 26; i++) {
    text = digits[Number(value & 31n)] + text
    value >>= 5n
  }
  return text
}

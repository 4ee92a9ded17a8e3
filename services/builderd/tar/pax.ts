// PAX extended headers: records of the form "<length> <key>=<value>\n", length counting the whole record.
// Spec: POSIX pax, "pax Extended Header".

import { TarError } from './entry.ts'

export interface PaxRecords {
  path?: string
  linkpath?: string
  size?: number
  uid?: number
  gid?: number
  mtime?: { s: number; ns: number }
  xattrs?: Map<string, Buffer>
  /** GNU.sparse.* records in order: format 0.0 repeats its keys. */
  sparse?: [key: string, value: string][]
}

const xattrPrefix = 'SCHILY.xattr.'

/** An empty value takes the record back, as POSIX says. Unknown keys are comments to us. */
export function parsePax(data: Buffer): PaxRecords {
  const records: PaxRecords = {}
  let at = 0
  while (at < data.length) {
    const { key, value, next } = readRecord(data, at)
    at = next
    if (key.startsWith(xattrPrefix)) {
      records.xattrs ??= new Map()
      const name = key.slice(xattrPrefix.length)
      if (name === '' || name.includes('\0'))
        throw new TarError('a PAX header has an extended attribute without a name')
      records.xattrs.set(name, Buffer.from(value))
    } else if (key.startsWith('GNU.sparse.')) {
      records.sparse ??= []
      records.sparse.push([key.slice('GNU.sparse.'.length), value.toString('latin1')])
    } else apply(records, key, value)
  }
  return records
}

function readRecord(data: Buffer, at: number) {
  const space = data.indexOf(0x20, at)
  const digits = space < 0 || space - at > 10 ? '' : data.toString('latin1', at, space)
  const length = /^[0-9]+$/.test(digits) ? Number(digits) : 0
  const next = at + length
  if (length === 0 || next > data.length || next < space + 3 || data[next - 1] !== 0x0a)
    throw new TarError('a PAX header has a record whose length is wrong')
  const equals = data.indexOf(0x3d, space + 1)
  if (equals < 0 || equals >= next - 1) throw new TarError('a PAX header has a record without "="')
  return { key: data.toString('latin1', space + 1, equals), value: data.subarray(equals + 1, next - 1), next }
}

function apply(records: PaxRecords, key: string, value: Buffer) {
  const text = value.toString('latin1')
  switch (key) {
    case 'path':
    case 'linkpath':
      if (text.includes('\0')) throw new TarError(`a PAX header has a ${key} with a NUL byte`)
      if (text === '') delete records[key]
      else records[key] = text
      return
    case 'size':
    case 'uid':
    case 'gid':
      if (text === '') delete records[key]
      else records[key] = parseWhole(text, key)
      return
    case 'mtime':
      if (text === '') delete records.mtime
      else records.mtime = parseTime(text)
      return
  }
}

export function parseWhole(text: string, key: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) throw new TarError(`a PAX header has a ${key} that is not a whole number`)
  return value
}

/** Decimal seconds with any number of fraction digits; what is finer than a nanosecond is cut. */
function parseTime(text: string): { s: number; ns: number } {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text)
  if (!match) throw new TarError('a PAX header has an mtime that is not a decimal number')
  const [, sign, whole = '', fraction = ''] = match
  const s = Number(whole)
  const ns = Number(fraction.slice(0, 9).padEnd(9, '0'))
  if (sign === '') return { s, ns }
  return ns === 0 ? { s: s === 0 ? 0 : -s, ns: 0 } : { s: -s - 1, ns: 1_000_000_000 - ns }
}

/** The text of a time, without trailing zeros. */
export function formatTime(s: number, ns: number): string {
  if (ns === 0) return String(s)
  const negative = s < 0
  const whole = negative ? -s - 1 : s
  const fraction = String(negative ? 1_000_000_000 - ns : ns)
    .padStart(9, '0')
    .replace(/0+$/, '')
  return `${negative ? '-' : ''}${whole}.${fraction}`
}

export function encodePaxRecord(key: string, value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value
  const rest = 1 + Buffer.byteLength(key, 'latin1') + 1 + bytes.length + 1
  // The length counts its own digits.
  let length = rest + String(rest).length
  length = rest + String(length).length
  return Buffer.concat([Buffer.from(`${length} ${key}=`, 'latin1'), bytes, Buffer.from('\n')])
}

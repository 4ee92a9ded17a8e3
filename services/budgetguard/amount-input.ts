// Amounts as callers write them: a decimal string, or a JSON number that a float has not already changed.

import { type NanoUsd, parseUsd } from '#platform/money'

/** More significant digits than this and a JSON number may no longer be the one that was typed. */
const digitsMax = 15

/** @throws RangeError that completes "amountUsd …" */
export function parseAmount(value: unknown): NanoUsd {
  if (typeof value === 'string') return parseUsd(value.trim())
  if (typeof value !== 'number') throw new RangeError('must be a number or a decimal string')
  if (!Number.isFinite(value)) throw new RangeError('must be finite')
  if (value < 0) throw new RangeError(`must not be negative, got ${value}`)
  const text = plainDecimal(value)
  const digits = text.replace('.', '').replace(/^0+/, '').replace(/0+$/, '').length
  if (digits > digitsMax)
    throw new RangeError(
      `${value} has ${digits} significant digits, more than a JSON number carries; send it as a string`,
    )
  return parseUsd(text)
}

/** The shortest decimal that reads back as this number, without exponent. */
export function plainDecimal(value: number): string {
  const text = String(value)
  const match = /^(\d+)(?:\.(\d+))?e([+-]\d+)$/.exec(text)
  if (!match) return text
  const [, whole = '', fraction = '', exponent = '0'] = match
  const digits = whole + fraction
  const point = whole.length + Number(exponent)
  if (point <= 0) return `0.${'0'.repeat(-point)}${digits}`
  return point >= digits.length ? digits.padEnd(point, '0') : `${digits.slice(0, point)}.${digits.slice(point)}`
}

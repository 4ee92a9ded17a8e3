// Reading admin requests: ids, amounts, dates. Errors name the field, the value and the bound.

import type { FastifyRequest } from 'fastify'
import type { NanoUsd } from '#platform/money'
import { parseAmount } from '../../amount-input.ts'
import { isObject } from '../../dialects/openai/chat.ts'
import { invalidRequest, Refusal } from '../../errors.ts'
import { dayOf, startOfDay } from '../../window.ts'

const idMax = 2_147_483_647

/** @throws Refusal 400 `Invalid tenant ID` */
export function idOf(request: FastifyRequest, name: string, what: string): number {
  const params = request.params
  const text = isObject(params) ? params[name] : undefined
  const id = typeof text === 'string' && /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (!(id >= 1 && id <= idMax)) throw invalidRequest(`Invalid ${what} ID`, name)
  return id
}

export function notFound(what: string): Refusal {
  return new Refusal({ status: 404, reason: 'NOT_FOUND', message: `${what} not found` })
}

/** The body as an object; an absent one is empty. */
export function bodyOf(request: FastifyRequest): Record<string, unknown> {
  if (request.body === undefined || request.body === null) return {}
  if (!isObject(request.body)) throw invalidRequest('The body must be a JSON object')
  return request.body
}

export function amountOf(value: unknown, name: string): NanoUsd {
  try {
    return parseAmount(value)
  } catch (error) {
    throw invalidRequest(`${name} ${error instanceof Error ? error.message : 'is not an amount'}`, name)
  }
}

export function textOf(value: unknown, name: string, charsMax: number): string {
  if (typeof value !== 'string') throw invalidRequest(`${name} must be a string`, name)
  const text = value.trim()
  if (text.length > charsMax) throw invalidRequest(`${name} is longer than ${charsMax} characters`, name)
  if (text.includes('\0') || !text.isWellFormed())
    throw invalidRequest(`${name} holds characters that cannot be stored`, name)
  return text
}

export function optionalTextOf(value: unknown, name: string, charsMax: number): string | null | undefined {
  return value === undefined || value === null ? value : textOf(value, name, charsMax)
}

export function queryOf(request: FastifyRequest): Record<string, string | undefined> {
  const query = isObject(request.query) ? request.query : {}
  return Object.fromEntries(
    Object.entries(query).flatMap(([name, value]) =>
      typeof value === 'string' && value !== '' ? [[name, value]] : [],
    ),
  )
}

export function countOf(
  text: string | undefined,
  name: string,
  o: { standard: number; min: number; max: number },
): number {
  if (text === undefined) return o.standard
  const n = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (!(n >= o.min && n <= o.max))
    throw invalidRequest(`${name} must be a whole number from ${o.min} to ${o.max}`, name)
  return n
}

/** `startDate` and `endDate` (whole days, both included), else the last `days` days up to now. */
export function rangeOf(
  query: Record<string, string | undefined>,
  o: { zone: string; nowMs: number },
): { fromMs: number; toMs: number; firstDay: Temporal.PlainDate; lastDay: Temporal.PlainDate } {
  const days = countOf(query.days, 'days', { standard: 30, min: 1, max: 3_650 })
  const today = Temporal.Instant.fromEpochMilliseconds(o.nowMs).toZonedDateTimeISO(o.zone).toPlainDate()
  const lastDay = query.endDate === undefined ? today : dateOf(query.endDate, 'endDate', o.zone)
  const firstDay =
    query.startDate === undefined ? lastDay.subtract({ days: days - 1 }) : dateOf(query.startDate, 'startDate', o.zone)
  if (Temporal.PlainDate.compare(lastDay, firstDay) < 0)
    throw invalidRequest(`endDate must be equal to or after startDate (${firstDay.toString()})`, 'endDate')
  if (firstDay.until(lastDay).days > 3_660) throw invalidRequest('the range is longer than ten years', 'startDate')
  return {
    fromMs: startOfDay(firstDay, o.zone),
    toMs: startOfDay(lastDay.add({ days: 1 }), o.zone),
    firstDay,
    lastDay,
  }
}

export function dateOf(text: string, name: string, zone: string): Temporal.PlainDate {
  try {
    return dayOf(text, zone)
  } catch (error) {
    throw invalidRequest(`${name}: ${error instanceof Error ? error.message : 'not a date'}`, name)
  }
}

import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { parseDuration } from '#platform/time'
import { badRequest } from '../errors.ts'

// Reading what a caller asks for: parsed once, here, with the field named when it is wrong.

/** Longest a read may wait for what was acknowledged before it. */
const waitMsMax = 30_000

export function parseInput<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = issue?.path.map(String).join('.') ?? ''
  throw badRequest('INVALID_FIELD', `${path === '' ? 'The input' : path}: ${issue?.message ?? 'is not valid'}.`)
}

export const instant = z.iso
  .datetime({ offset: true, error: 'is not a time such as 2026-10-01T00:00:00Z' })
  .transform(text => Date.parse(text))
  .refine(ms => ms >= 0 && ms < 4_102_444_800_000, 'must lie between 1970 and 2100')

export const wholeHour = instant.refine(ms => ms % 3_600_000 === 0, 'must be a whole hour in UTC')

export const wait = z
  .string()
  .default('0s')
  .transform((text, context) => {
    try {
      return Math.min(parseDuration(text), waitMsMax)
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'is not a duration' })
      return z.NEVER
    }
  })

const limitText = z.string().regex(/^[1-9]\d{0,2}$|^1000$/, 'is not a whole number from 1 to 1000')
const toNumber = (text: string) => Number.parseInt(text, 10)

export const limit = limitText.default('100').transform(toNumber)
/** Of short lists, which their readers expect whole. */
export const limitOfShort = limitText.default('1000').transform(toNumber)
/** Of customers whose month is measured or rated for the answer, which is work. */
export const limitOfMeasured = z
  .string()
  .regex(/^[1-9]\d?$|^100$/, 'is not a whole number from 1 to 100')
  .default('20')
  .transform(toNumber)
/** Undefined: all there is. Not `limit.optional()`, which has its default. */
export const limitIfAny = limitText.transform(toNumber).optional()

/** The cursor of lists in the order of time; null at the beginning. */
export const timeAndId = z
  .string()
  .max(300)
  .default('')
  .transform((text, context): { at: Date; id: string } | null => {
    if (text === '') return null
    const cut = text.indexOf('/')
    const [at, id] = [new Date(text.slice(0, cut)), text.slice(cut + 1)]
    if (cut > 0 && !Number.isNaN(at.getTime()) && id !== '') return { at, id }
    context.addIssue({ code: 'custom', message: 'is not one that a list gave' })
    return z.NEVER
  })

export function paramId(request: FastifyRequest): string {
  return parseInput(z.object({ id: z.string().min(1).max(255) }), request.params).id
}

export function isZone(name: string): boolean {
  try {
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(name)
    return true
  } catch {
    return false
  }
}

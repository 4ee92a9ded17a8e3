import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'

// Where a page of a list ended, as text that is given back for the next one. Answers that are objects name it `nextCursor`;
// those of the OpenMeter API are arrays, and name the next page in a Link header.

/** Null at the beginning. */
export function cursorTo<T extends z.ZodType>(place: T) {
  return z
    .string()
    .max(8_000)
    .default('')
    .transform((text, context): z.output<T> | null => {
      if (text === '') return null
      try {
        return place.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')))
      } catch {
        context.addIssue({ code: 'custom', message: 'is not one that a list gave' })
        return z.NEVER
      }
    })
}

export function encodeCursor(place: object): string {
  return Buffer.from(JSON.stringify(place)).toString('base64url')
}

/** The rows of a page of which one more was asked for, and the place of its last when others follow. */
export function pageOf<R>(rows: readonly R[], limit: number, placeOf: (last: R) => object) {
  const page = rows.slice(0, limit)
  const last = rows.length > limit ? page.at(-1) : undefined
  return { page, nextCursor: last === undefined ? null : encodeCursor(placeOf(last)) }
}

/** RFC 8288. Relative, so that it holds behind any proxy. */
export function linkNext(request: FastifyRequest, reply: FastifyReply, nextCursor: string | null) {
  if (nextCursor === null) return
  const [path = '', query] = request.url.split('?')
  const parameters = new URLSearchParams(query)
  parameters.set('cursor', nextCursor)
  reply.header('link', `<${path}?${parameters}>; rel="next"`)
}

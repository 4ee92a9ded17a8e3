// The refusals of the query routes. The intake's are in http/intake.ts, in the guide's own shape.

import { Problem } from '#platform/http'

/** Tools underline the place and offer the example, so both are members of their own. */
export const badQuery = (error: { message: string; position: number; expected: string; example: string }) =>
  new Problem({
    status: 400,
    reason: 'BAD_QUERY',
    detail: error.message,
    extra: { position: error.position, expected: error.expected, example: error.example },
  })

export const badParameter = (name: string, detail: string) =>
  new Problem({ status: 400, reason: 'BAD_PARAMETER', detail: `${name}: ${detail}` })

export const keyRequired = () =>
  new Problem({
    status: 401,
    reason: 'KEY_REQUIRED',
    detail: 'API key is required',
    extra: { error: 'API key is required' },
  })

export const keyInvalid = () =>
  new Problem({ status: 401, reason: 'KEY_INVALID', detail: 'Invalid API key', extra: { error: 'Invalid API key' } })

export const scopeMissing = (scope: string) =>
  new Problem({
    status: 403,
    reason: 'SCOPE_MISSING',
    detail: `This key lacks the scope ${scope}; use one that has it.`,
  })

export const directoryUnavailable = () =>
  new Problem({
    status: 429,
    reason: 'DIRECTORY_UNAVAILABLE',
    detail: 'This key is not known here yet and the database cannot be asked; try again.',
    headers: { 'Retry-After': '5' },
  })

export const rateLimited = (retryAfterS: number) =>
  new Problem({
    status: 429,
    reason: 'RATE_LIMITED',
    detail: 'Rate limit exceeded',
    headers: { 'Retry-After': String(retryAfterS) },
  })

export const storeUnavailable = (detail: string) =>
  new Problem({
    status: 503,
    reason: 'STORE_UNAVAILABLE',
    detail: `The database cannot be asked now: ${detail}. Intake goes on; try again.`,
    headers: { 'Retry-After': '5' },
  })

export const queriesBusy = () =>
  new Problem({
    status: 429,
    reason: 'QUERIES_BUSY',
    detail: 'Too many queries at once: four per replica and two per key. Try again.',
    headers: { 'Retry-After': '1' },
  })

export const tooManyTails = () =>
  new Problem({
    status: 429,
    reason: 'TOO_MANY_TAILS',
    detail: 'At most ten live tails per key and a hundred per replica. Close one.',
    headers: { 'Retry-After': '10' },
  })

export const notFound = (what: string) => new Problem({ status: 404, reason: 'NOT_FOUND', detail: what })

export const nameTaken = (noun: string) =>
  new Problem({
    status: 409,
    reason: 'NAME_TAKEN',
    detail: `There is a ${noun} for this already. Change that one, or choose another name.`,
  })

export const tooManyRules = (noun: string, countMax: number) =>
  new Problem({
    status: 409,
    reason: 'TOO_MANY_RULES',
    detail: `A tenant has at most ${countMax} of kind ${noun}. Delete one.`,
  })

export const webhookMissing = () =>
  new Problem({
    status: 409,
    reason: 'WEBHOOK_MISSING',
    detail: 'This alert rule has no webhook to send a sample to. Give it one: {"webhook":{"url":"https://…"}}.',
  })

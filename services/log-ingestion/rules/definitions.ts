// What the rules of a tenant may say. The schemas check what comes in by the API; what comes back from the database is read
// with the same, so that a row written by another version is noticed and left out rather than misread.

import { z } from 'zod'
import { formatDuration, parseDuration } from '#platform/time'
import { isLevel, levels } from '../level.ts'
import { parseQuery, QueryError } from '../query/parse.ts'

const dayMs = 86_400_000

/** A Go duration, or days: `90d`. */
export function parseSpan(text: string): number {
  const days = /^(\d{1,6})d$/.exec(text)
  return days ? Number(days[1]) * dayMs : parseDuration(text)
}

export function formatSpan(ms: number): string {
  return ms % dayMs === 0 && ms > 0 ? `${ms / dayMs}d` : formatDuration(ms)
}

const span = (minMs: number, maxMs: number, word?: string) =>
  z.string().transform((text, context) => {
    if (text === word) return text
    try {
      const ms = parseSpan(text)
      if (ms >= minMs && ms <= maxMs && ms % 1_000 === 0) return text
      context.addIssue({
        code: 'custom',
        message: `${JSON.stringify(text)} must be whole seconds from ${formatSpan(minMs)} to ${formatSpan(maxMs)}`,
      })
    } catch {
      context.addIssue({
        code: 'custom',
        message: `${JSON.stringify(text.slice(0, 40))} is not a length of time; write 30s, 5m, 1h30m or 7d`,
      })
    }
    return z.NEVER
  })

const query = z
  .string()
  .max(4_096)
  .superRefine((text, context) => {
    try {
      parseQuery(text)
    } catch (error) {
      if (!(error instanceof QueryError)) throw error
      context.addIssue({ code: 'custom', message: error.message })
    }
  })

export const ruleName = z
  .string()
  .trim()
  .min(1, 'must not be empty')
  .max(200)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a name may not hold
  .regex(/^[^\u0000-\u001f]*$/, 'must not hold control characters')

// Saved searches

export const searchDefinition = z.strictObject({
  q: query,
  /** As the search takes it: `-15m`, `now-1d`, RFC 3339. */
  from: z.string().max(64).optional(),
  to: z.string().max(64).optional(),
  columns: z.array(z.string().max(128)).max(32).optional(),
})
export type SearchDefinition = z.infer<typeof searchDefinition>

// Alerts

export const operators = ['>', '>=', '<', '<='] as const
export const formats = ['purser', 'slack', 'alertmanager'] as const

const webhook = z.strictObject({
  url: z
    .string()
    .max(2_048)
    .superRefine((text, context) => {
      const problem = urlProblem(text)
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
    }),
  format: z.enum(formats).default('purser'),
})

function urlProblem(text: string): string | undefined {
  if (!URL.canParse(text)) return 'is not a URL such as https://hooks.example.com/x'
  const { protocol, username, password } = new URL(text)
  if (protocol !== 'https:' && protocol !== 'http:') return 'must start with https:// or http://'
  if (username !== '' || password !== '') return 'must not hold a user name or password'
  return undefined
}

export const alertDefinition = z
  .strictObject({
    q: query,
    kind: z.enum(['count', 'absence', 'rate']),
    /** count: entries in the window; rate: change against the window before it, in percent. Not for absence. */
    op: z.enum(operators).optional(),
    threshold: z.int().min(-1_000_000_000_000).max(1_000_000_000_000).optional(),
    window: span(10_000, dayMs),
    every: span(10_000, dayMs).default('1m'),
    for: span(0, 7 * dayMs).default('0s'),
    enabled: z.boolean().default(true),
    webhook: webhook.optional(),
  })
  .superRefine((rule, context) => {
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (rule.kind === 'absence') {
      if (rule.op !== undefined) issue('op', 'has no meaning for absence; leave it out')
      if (rule.threshold !== undefined) issue('threshold', 'has no meaning for absence; leave it out')
      return
    }
    if (rule.threshold === undefined) issue('threshold', `is needed for ${rule.kind}`)
    if (rule.kind === 'count' && rule.threshold !== undefined && rule.threshold < 0)
      issue('threshold', 'must not be negative for count')
  })
export type AlertDefinition = z.infer<typeof alertDefinition>

// Retention

export const retentionDefinition = z.strictObject({
  service: z.string().min(1).max(255).optional(),
  level: z
    .string()
    .transform(text => text.toUpperCase())
    .refine(isLevel, `must be one of ${levels.join(', ')}`)
    .optional(),
  keep: span(60_000, 100 * 366 * dayMs, 'forever'),
})
export type RetentionDefinition = z.infer<typeof retentionDefinition>

/** What is wrong with a length of time to keep things; undefined when nothing is. */
export function keepProblem(text: string): string | undefined {
  const parsed = retentionDefinition.shape.keep.safeParse(text)
  return parsed.success ? undefined : 'must be forever, or a length of time from 1m0s to 36600d, such as 30d or 12h'
}

export function keepMsOf({ keep }: { keep: string }): number | null {
  return keep === 'forever' ? null : parseSpan(keep)
}

// Redaction

export const patternName = /^[a-z0-9][a-z0-9_-]{0,31}$/

export const redactionDefinition = z
  .strictObject({
    /** Metadata keys that are removed. */
    keys: z.array(z.string().min(1).max(128)).max(64).optional(),
    /** Built-in patterns by name. */
    patterns: z.array(z.string().max(32)).max(16).optional(),
    /** RE2; its matches become `[redacted:<name of the rule>]`. */
    pattern: z.string().min(1).max(1_024).optional(),
    enabled: z.boolean().default(true),
  })
  .refine(
    rule => rule.keys !== undefined || rule.patterns !== undefined || rule.pattern !== undefined,
    'needs keys, patterns or pattern',
  )
export type RedactionDefinition = z.infer<typeof redactionDefinition>

// Limits

const rate = (max: number) => z.int().min(1).max(max)

export const limitDefinition = z
  .strictObject({
    /** Name or id of a key; without it the limit is the tenant's, for all its keys together. */
    key: z.string().min(1).max(200).optional(),
    requests_per_second: rate(1_000_000).optional(),
    burst: rate(1_000_000).optional(),
    rows_per_second: rate(1_000_000_000).optional(),
    bytes_per_second: rate(1_000_000_000_000).optional(),
    /** Of a UTC day. */
    bytes_per_day: rate(1_000_000_000_000_000).optional(),
  })
  .refine(
    ({ key: _, ...limits }) => Object.values(limits).some(value => value !== undefined),
    'needs at least one of requests_per_second, burst, rows_per_second, bytes_per_second, bytes_per_day',
  )
export type LimitDefinition = z.infer<typeof limitDefinition>

// What is taken out of entries before they reach the journal, per tenant: the settings, and the tenant's own rules.
//
// Decoders remove the keys that the settings name. What they leave is looked at once more here, row by row and for every
// protocol in the same way: patterns, and keys that only this tenant named.

import { Cursor, noteKey } from '../json/cursor.ts'
import { cleanMetadata, createRedaction, type Redaction, type Tally } from '../json/metadata.ts'
import type { RecordBuilder, Rewritten, Stretch } from '../record.ts'
import type { RedactionDefinition } from './definitions.ts'
import {
  type BuiltInPattern,
  builtInPatterns,
  candidateScan,
  compilePattern,
  type Finder,
  findersInOrder,
  isBuiltIn,
} from './patterns.ts'

export interface TextRedaction {
  /** False only when `replace` would change nothing. */
  mayChange(bytes: Uint8Array, from: number, to: number): boolean
  replace(text: string, tally: Tally): string
}

export interface RowRedaction extends Redaction {
  readonly texts: TextRedaction | undefined
  /** Keys beyond those that decoders remove already. */
  readonly hasOwnKeys: boolean
}

/** One source of rules: the settings, or a rule of a tenant under its name. */
export interface RedactionRule extends Pick<RedactionDefinition, 'keys' | 'patterns' | 'pattern'> {
  name: string
}

/** Undefined when there is nothing to do beyond what decoders do. */
export function compileRedaction(
  settingsKeys: readonly string[],
  rules: readonly RedactionRule[],
): RowRedaction | undefined {
  const ownKeys = rules.flatMap(rule => rule.keys ?? [])
  const builtIn = new Set<BuiltInPattern>(rules.flatMap(rule => rule.patterns ?? []).filter(isBuiltIn))
  const finders: [string, Finder][] = findersInOrder
    .filter(([name]) => builtIn.has(name))
    .map(([name, find]) => [name, find])
  const ownPatterns = rules.flatMap((rule): [string, Finder][] =>
    rule.pattern === undefined ? [] : [[labelOf(rule.name), compilePattern(rule.pattern)]],
  )
  if (ownKeys.length === 0 && finders.length + ownPatterns.length === 0) return undefined
  // A secret key of AWS has no shape of its own; under its name it has.
  const keysOfAws = builtIn.has('aws') ? ['aws_secret_access_key', 'secret_access_key'] : []
  const redaction = createRedaction([...settingsKeys, ...ownKeys, ...keysOfAws])
  const texts = textRedaction(builtIn, [...finders, ...ownPatterns], ownPatterns.length > 0)
  return {
    ...redaction,
    texts,
    hasOwnKeys: ownKeys.length + keysOfAws.length > 0,
    ...(texts ? { replace: (text: string, tally: Tally) => texts.replace(text, tally) } : {}),
  }
}

/** What stands in the place of a match and in the metric: the rule's name in the letters that a pattern's name has. */
export function labelOf(name: string): string {
  return (
    name
      .toLowerCase()
      .replaceAll(/[^a-z0-9_-]+/g, '-')
      .slice(0, 32) || 'rule'
  )
}

function textRedaction(
  builtIn: ReadonlySet<BuiltInPattern>,
  finders: readonly [string, Finder][],
  isAlwaysLooking: boolean,
): TextRedaction | undefined {
  if (finders.length === 0) return undefined
  return {
    mayChange: isAlwaysLooking ? () => true : candidateScan(builtIn),
    replace(text, tally) {
      let result = text
      for (const [name, find] of finders) result = replaceMatches(result, name, find, tally)
      return result
    },
  }
}

function replaceMatches(text: string, name: string, find: Finder, tally: Tally): string {
  let result = ''
  let behind = 0
  let count = 0
  for (const [from, to] of find(text)) {
    result += `${text.slice(behind, from)}[redacted:${name}]`
    behind = to
    count++
  }
  if (count === 0) return text
  tally.redactions.set(name, (tally.redactions.get(name) ?? 0) + count)
  return result + text.slice(behind)
}

/** Of REDACT_PATTERNS; the configuration has checked them. */
export function settingsRules(items: readonly string[]): RedactionRule[] {
  return items.map(item => {
    const [name = '', ...rest] = item.split('=')
    return rest.length === 0 ? { name, patterns: [name] } : { name, pattern: rest.join('=') }
  })
}

/** What is wrong with an item of REDACT_PATTERNS. */
export function settingsProblem(item: string): string | undefined {
  const [name = '', ...rest] = item.split('=')
  if (rest.length === 0)
    return (builtInPatterns as readonly string[]).includes(name)
      ? undefined
      : `must name built-in patterns (${builtInPatterns.join(', ')}) or be name=expression`
  try {
    compileRedaction([], [{ name, pattern: rest.join('=') }])
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const yieldEveryBytes = 256 * 1024

/** Takes out of the collected rows what must not reach the disk, giving way every 256 KiB. */
export function* redactRows(builder: RecordBuilder, redaction: RowRedaction, tally: Tally): Generator<void, void> {
  let yieldedAt = 0
  for (const step of builder.rewrite((bytes, message, metadata) =>
    redactRow(bytes, message, metadata, redaction, tally),
  )) {
    if (step - yieldedAt < yieldEveryBytes) continue
    yieldedAt = step
    yield
  }
}

function redactRow(
  bytes: Buffer,
  message: Stretch,
  metadata: Stretch | null,
  redaction: RowRedaction,
  tally: Tally,
): Rewritten | null {
  const { texts } = redaction
  const mayMessage = texts?.mayChange(bytes, message.from, message.to) ?? false
  const mayMetadata =
    metadata !== null &&
    ((texts?.mayChange(bytes, metadata.from, metadata.to) ?? false) ||
      (redaction.hasOwnKeys && hasWatchedKey(bytes, metadata, redaction)))
  if (!mayMessage && !mayMetadata) return null
  const changed: Rewritten = { message: null, metadata: null }
  if (mayMessage && texts) {
    const text = bytes.toString('utf8', message.from, message.to)
    const clean = texts.replace(text, tally)
    if (clean !== text) changed.message = clean
  }
  if (mayMetadata) {
    const text = bytes.toString('utf8', metadata.from, metadata.to)
    const clean = cleanMetadata(text, redaction, tally)
    if (clean !== text) changed.metadata = clean
  }
  return changed.message === null && changed.metadata === null ? null : changed
}

function hasWatchedKey(bytes: Buffer, { from, to }: Stretch, redaction: Redaction): boolean {
  const cursor = new Cursor(bytes, from, to)
  cursor.skip(redaction.watch)
  return (cursor.notes & noteKey) !== 0
}

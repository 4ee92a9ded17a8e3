// How long entries are kept: the setting for everybody, and what tenants say about themselves, their services and levels.

import type { StoredRule } from '../store/rules/rules.ts'
import type { RetentionRule } from '../store/visibility.ts'
import { keepMsOf, retentionDefinition } from './definitions.ts'

/** WARNING is WARN in another spelling: a rule for one is a rule for both. */
const spellings: Readonly<Record<string, readonly string[]>> = {
  WARN: ['WARN', 'WARNING'],
  WARNING: ['WARN', 'WARNING'],
}

/** All rules in force; the first is the setting's. */
export function retentionRules(defaultKeepMs: number | null, stored: readonly StoredRule[]): RetentionRule[] {
  const rules: RetentionRule[] = [{ tenant: null, service: null, level: null, keepMs: defaultKeepMs }]
  for (const { tenant, definition } of stored) {
    const parsed = retentionDefinition.safeParse(definition)
    if (!parsed.success) continue
    const { service, level } = parsed.data
    for (const spelled of level === undefined ? [null] : (spellings[level] ?? [level]))
      rules.push({ tenant, service: service ?? null, level: spelled, keepMs: keepMsOf(parsed.data) })
  }
  return rules
}

/** The longest that anything of this tenant is kept; null: something is kept for ever. */
export function longestKeepMs(rules: readonly RetentionRule[], tenant: string): number | null {
  const ours = rules.filter(rule => rule.tenant === tenant)
  const isGeneral = (rule: RetentionRule) => rule.service === null && rule.level === null
  const inForce = ours.some(isGeneral) ? ours : [...ours, ...rules.filter(rule => rule.tenant === null)]
  let longest = 0
  for (const { keepMs } of inForce) {
    if (keepMs === null) return null
    longest = Math.max(longest, keepMs)
  }
  return longest
}

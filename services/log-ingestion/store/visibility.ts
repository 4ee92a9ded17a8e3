// What readers must not see although it is stored still: entries of deletions under way, and expired ones. A short list in
// memory, asked once per candidate by every read and by live tails.
//
// Whoever runs deletions and retention keeps the list the same on every replica (load at start, then on each change).

import { compile } from '../query/evaluate.ts'
import type { Query } from '../query/query.ts'
import type { StoredEntry } from './store.ts'

export interface Deletion {
  id: string
  tenant: string
  query: Query
  /** Inclusive and exclusive, as in a search. */
  fromNs: bigint
  toNs: bigint
  /** Entries accepted at this time or later are not concerned. */
  acceptedBeforeUs: bigint
}

/** Null matches all. The most specific rule wins: service and level, service, level, tenant, default. */
export interface RetentionRule {
  tenant: string | null
  service: string | null
  level: string | null
  /** Null: for ever. */
  keepMs: number | null
}

/** One read's view. */
export interface View {
  /** Nothing before this time is visible, whatever it is; null: no such bound. */
  fromNs: bigint | null
  /** Decides on the rest; null: all of it is visible. */
  isVisible: ((entry: StoredEntry) => boolean) | null
}

export interface Visibility {
  hide(deletion: Deletion): () => void
  setRetention(rules: readonly RetentionRule[]): void
  view(tenant: string): View
}

export function createVisibility(nowMs: () => number): Visibility {
  const hidden = new Set<{ deletion: Deletion; matches: (entry: StoredEntry) => boolean }>()
  let rules: readonly RetentionRule[] = []
  return {
    hide(deletion) {
      const item = { deletion, matches: deletionMatcher(deletion) }
      hidden.add(item)
      return () => void hidden.delete(item)
    },
    setRetention(wanted) {
      rules = wanted
    },
    view(tenant) {
      const deletions = [...hidden].filter(item => item.deletion.tenant === tenant).map(item => item.matches)
      const retention = retentionView(rules, tenant, nowMs())
      const { isVisible: isKept } = retention
      if (deletions.length === 0) return retention
      return {
        fromNs: retention.fromNs,
        isVisible: entry => !deletions.some(matches => matches(entry)) && (isKept === null || isKept(entry)),
      }
    },
  }
}

export function deletionMatcher(deletion: Omit<Deletion, 'id' | 'tenant'>): (entry: StoredEntry) => boolean {
  const { fromNs, toNs, acceptedBeforeUs } = deletion
  const matches = compile(deletion.query)
  return entry =>
    entry.timestampNs >= fromNs && entry.timestampNs < toNs && entry.createdUs < acceptedBeforeUs && matches(entry)
}

/** Entries older than their rule's age are not visible. */
export function retentionView(rules: readonly RetentionRule[], tenant: string, nowMs: number): View {
  const ours = rules.filter(rule => rule.tenant === null || rule.tenant === tenant)
  const general = keepOf(ours, null, null)
  const specific = ours.filter(rule => rule.service !== null || rule.level !== null)
  if (specific.length === 0) return { fromNs: general === null ? null : horizonNs(general, nowMs), isVisible: null }
  const keeps = [general, ...specific.map(rule => rule.keepMs)]
  const longest = keeps.includes(null) ? null : Math.max(...keeps.map(keepMs => keepMs ?? 0))
  const horizons = new Map<string, bigint | null>()
  return {
    fromNs: longest === null ? null : horizonNs(longest, nowMs),
    isVisible({ service, level, timestampNs }) {
      const id = `${level}\0${service}`
      let horizon = horizons.get(id)
      if (horizon === undefined) {
        const keepMs = keepOf(ours, service, level)
        horizon = keepMs === null ? null : horizonNs(keepMs, nowMs)
        if (horizons.size > 10_000) horizons.clear()
        horizons.set(id, horizon)
      }
      return horizon === null || timestampNs >= horizon
    },
  }
}

/** How long an entry of this service and level is kept; null: for ever. Nulls here stand for names no rule speaks of. */
export function keepOf(rules: readonly RetentionRule[], service: string | null, level: string | null): number | null {
  let best: RetentionRule | undefined
  for (const rule of rules) {
    if (rule.service !== null && rule.service !== service) continue
    if (rule.level !== null && rule.level !== level) continue
    if (best === undefined || specificity(rule) > specificity(best)) best = rule
  }
  return best?.keepMs ?? null
}

function specificity({ tenant, service, level }: RetentionRule): number {
  return (service === null ? 0 : 4) + (level === null ? 0 : 2) + (tenant === null ? 0 : 1)
}

/** Entries before it have expired. */
export function horizonNs(keepMs: number, nowMs: number): bigint {
  return BigInt(nowMs - keepMs) * 1_000_000n
}

// The limits that tenants set for themselves and for single keys, from memory.

import type { StoredRule } from '../store/rules/rules.ts'
import { type LimitDefinition, limitDefinition } from './definitions.ts'

/** What is undefined is left to the settings. */
export interface Limit {
  requestsPerSecond: number | undefined
  burst: number | undefined
  rowsPerSecond: number | undefined
  bytesPerSecond: number | undefined
  /** Of a UTC day. */
  bytesPerDay: number | undefined
}

export interface Limits {
  /** Of one key alone, by its id or its name. */
  ofKey(tenant: string, key: { key: string; keyName: string }): Limit | undefined
  /** Of all keys of the tenant together. */
  ofTenant(tenant: string): Limit | undefined
}

export const noLimits: Limits = { ofKey: () => undefined, ofTenant: () => undefined }

export function limitsOf(rules: readonly StoredRule[]): Limits {
  const known = new Map<string, Limit>()
  for (const { tenant, definition } of rules) {
    const parsed = limitDefinition.safeParse(definition)
    if (parsed.success) known.set(idOf(tenant, parsed.data.key), limitOf(parsed.data))
  }
  return {
    ofKey: (tenant, { key, keyName }) => known.get(idOf(tenant, key)) ?? known.get(idOf(tenant, keyName)),
    ofTenant: tenant => known.get(idOf(tenant, undefined)),
  }
}

function idOf(tenant: string, key: string | undefined): string {
  return key === undefined ? tenant : `${tenant}\0${key}`
}

function limitOf(definition: LimitDefinition): Limit {
  return {
    requestsPerSecond: definition.requests_per_second,
    burst: definition.burst,
    rowsPerSecond: definition.rows_per_second,
    bytesPerSecond: definition.bytes_per_second,
    bytesPerDay: definition.bytes_per_day,
  }
}

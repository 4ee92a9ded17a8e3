// Which settings a reload applies, and which of those that changed wait for a restart.

import { type Config, spec } from './config.ts'

const live: ReadonlySet<string> = new Set<keyof Config>([
  'apiKeys',
  'adminApiKeys',
  'isRateLimited',
  'rateLimitRps',
  'rateLimitBurst',
  'batchRows',
  'batchFlushIntervalMs',
  'registration',
  'corsOrigins',
  'redactKeys',
  'redactPatterns',
  'retention',
  'webhookDeny',
  'logLevel',
  'warnings',
])

/** Names of settings that differ and need a restart, as an operator writes them. */
export function needRestart(before: Config, after: Config): string[] {
  const old = new Map(Object.entries(before))
  const names = new Map<string, string>(
    Object.entries(spec.settings).map(([key, { env, bare }]) => [
      key,
      typeof env === 'string' ? `LOG_INGESTION_${env}` : (bare?.[0] ?? key),
    ]),
  )
  const now = new Map(Object.entries(after))
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter(key => !live.has(key) && JSON.stringify(now.get(key)) !== JSON.stringify(old.get(key)))
    .map(key => names.get(key) ?? key)
}

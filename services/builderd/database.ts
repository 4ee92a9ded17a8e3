// Which database: builderd's own setting, the platform's, or the embedded one. Names only.

import type { Config } from './config.ts'

/** Undefined: the embedded PostgreSQL. */
export function databaseUrlOf(config: Config): string | undefined {
  const { databaseType, databaseUrl, databaseHost } = config
  const isFile = databaseUrl !== undefined && /^(file|sqlite):/.test(databaseUrl)
  if (databaseType === 'sqlite' || databaseType === 'embedded' || isFile) return undefined
  if (databaseUrl !== undefined) return databaseUrl
  if (databaseHost !== undefined) {
    const url = new URL('postgres://host/')
    url.hostname = databaseHost
    url.port = String(config.databasePort)
    url.pathname = `/${config.databaseName}`
    url.username = config.databaseUser
    if (config.databasePassword !== undefined) url.password = config.databasePassword
    url.searchParams.set('sslmode', config.databaseSslMode)
    return url.href
  }
  return config.platformDatabaseUrl
}

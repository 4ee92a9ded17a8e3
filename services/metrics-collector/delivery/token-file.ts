// Secrets that come in files, and what is risky about them; never what they are.

import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '#platform/telemetry'
import type { Config } from '../config.ts'
import { StartError } from '../errors.ts'

/** The file with the upload token that this process can read; undefined when there is none. @throws StartError */
export function remoteTokenFile(config: Config, log: Logger): string | undefined {
  const { remoteAuthTokenFile: named, remoteAuthToken, remoteUrl, credentialsDir } = config
  // Under systemd the guide's root-owned file reaches us as a credential.
  const path = named !== undefined && !isReadable(named) && credentialsDir ? join(credentialsDir, 'api-token') : named
  if (path !== undefined) {
    const token = readTokenFile('remote.auth_token_file', path)
    if (path !== named && token === 'none') return undefined
    if ((statSync(path).mode & 0o004) !== 0) log.warn({ path }, 'the token file is readable by everyone; chmod 640 it')
  }
  const hasToken = path !== undefined || remoteAuthToken !== undefined
  if (hasToken && remoteUrl !== undefined && /^http:\/\/(?!localhost[:/]|127\.|\[::1\])/i.test(remoteUrl))
    log.warn('the token goes over plain http; use an https remote.url')
  return path
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}

/** @throws StartError */
export function readTokenFile(key: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined
  try {
    const token = readFileSync(path, 'utf8').trim()
    if (token === '') throw new Error('it is empty')
    return token
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StartError(`${key} ${path} cannot be used: ${reason}. Mend: chmod 640 and give it this user’s group`)
  }
}

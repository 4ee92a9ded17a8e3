// Asking the running service. Where it is and who asks comes from flags, else from the environment, else from the data
// folder of a platform that runs on this machine: its run file and its secret.

import { join } from 'node:path'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { readRunFile } from '../run-file.ts'
import { CommandFailed } from './main.ts'

export interface ServiceClient {
  url: string
  headers(): Record<string, string>
  /** Parsed JSON of a 2xx. @throws CommandFailed with what the service said */
  call<T>(method: string, path: string, body?: unknown): Promise<T>
}

/** Flags that commands which ask the service take. */
export const clientFlags = { url: { type: 'string' }, key: { type: 'string' }, tenant: { type: 'string' } } as const

export async function openClient(
  env: Readonly<Record<string, string | undefined>>,
  flags: { url?: string | undefined; key?: string | undefined } = {},
): Promise<ServiceClient> {
  const dataDir = env.PURSER_DATA_DIR ?? '.purser'
  const run = readRunFile(dataDir)
  const url = (
    flags.url ??
    env.PURSER_LOGS_URL ??
    run?.services.find(service => service.name === 'log-ingestion')?.url ??
    'http://127.0.0.1:8080'
  ).replace(/\/+$/, '')
  const key = flags.key ?? env.PURSER_LOGS_KEY
  const secret = key === undefined ? await secretOf(env, dataDir) : undefined
  const headers = () => ({
    authorization: `Bearer ${
      key ??
      (secret
        ? mintToken(secret, { audience: 'log-ingestion', role: 'operator', subject: 'cli', clock: systemClock })
        : '')
    }`,
  })
  return {
    url,
    headers,
    async call<T>(method: string, path: string, body?: unknown): Promise<T> {
      const response = await fetch(url + path, {
        method,
        headers: { ...headers(), ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }).catch(error => {
        throw new CommandFailed(
          `${url} does not answer (${error instanceof Error ? error.message : String(error)}). Is it running? Set PURSER_LOGS_URL or --url.`,
        )
      })
      const text = await response.text()
      if (!response.ok) throw new CommandFailed(`${url}${path} answered ${response.status}: ${sentenceOf(text)}`)
      return JSON.parse(text) as T
    },
  }
}

async function secretOf(env: Readonly<Record<string, string | undefined>>, dataDir: string): Promise<Buffer> {
  const given = env.PURSER_SECRET
  try {
    // Only what is there: a secret made here would open nothing.
    const { access } = await import('node:fs/promises')
    if (given === undefined) await access(join(dataDir, 'secret'))
    return await loadSecret({ dataDir, ...(given === undefined ? {} : { secret: given }) })
  } catch {
    throw new CommandFailed(
      `no key to ask with: give --key or PURSER_LOGS_KEY, or run where PURSER_DATA_DIR (${dataDir}) holds the secret`,
    )
  }
}

function sentenceOf(text: string): string {
  try {
    const body = JSON.parse(text) as Record<string, unknown>
    return String(body.detail ?? body.error ?? text)
  } catch {
    return text.slice(0, 300)
  }
}

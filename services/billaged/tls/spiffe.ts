import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { HealthCheck } from '#platform/http'
import type { Base } from '#platform/lifecycle'
import type { TlsSource } from '#platform/rpc/port'
import { sleep } from '#platform/time'
import { followSvid, plainPath, type Svid, trustDomainOf } from './workload-api.ts'

// TLS from a SPIFFE agent: our certificate is an X.509-SVID, and so must the client's be, of the same trust domain. The
// agent sends a new one before the old expires; while it is away the last one serves until it does.

export interface SpiffeTls extends TlsSource {
  health(): HealthCheck
  /** Called with each new identity after the first. */
  onRotation(fn: () => void): void
  close(): Promise<void>
}

/** How long a start waits for the first identity: it may be on its way, and without one nothing is served, plain or not. */
const firstWaitMsMax = 10_000
const retryMsMin = 500
const retryMsMax = 30_000

export async function startSpiffeTls(
  socketPath: string,
  { log, clock }: Pick<Base, 'log' | 'clock'>,
  firstWaitMs = firstWaitMsMax,
): Promise<SpiffeTls> {
  if (!existsSync(plainPath(socketPath)))
    throw new Error(
      `TLS_MODE=spiffe: there is no Workload API socket at ${socketPath}. Start the agent, or set BILLAGED_SPIFFE_SOCKET to its path.`,
    )
  const stopping = new AbortController()
  let current: Svid | undefined
  let rotated = () => {}
  let lastError = 'it said nothing'
  const first = Promise.withResolvers<void>()
  const follow = (async () => {
    for (let retryMs = retryMsMin; !stopping.signal.aborted; retryMs = Math.min(2 * retryMs, retryMsMax)) {
      try {
        await followSvid(
          socketPath,
          svid => {
            const isFirst = current === undefined
            current = svid
            retryMs = retryMsMin
            const { validTo } = new X509Certificate(svid.cert)
            log.info({ spiffeId: svid.spiffeId, validTo }, isFirst ? 'identity received' : 'identity rotated')
            if (isFirst) first.resolve()
            else rotated()
          },
          stopping.signal,
        )
        lastError = 'the agent ended the stream'
      } catch (error) {
        lastError = error instanceof Error ? error.message : String(error)
      }
      if (stopping.signal.aborted) return
      log.warn({ reason: lastError, retryMs }, 'Workload API lost; asking again')
      await sleep(retryMs, stopping.signal).catch(() => {})
    }
  })()
  const close = async () => {
    stopping.abort()
    await follow
  }
  const patience = setTimeout(() => first.reject(new Error('no identity')), firstWaitMs)
  try {
    await first.promise
  } catch {
    await close()
    throw new Error(`TLS_MODE=spiffe: no X.509-SVID from ${socketPath} within ${firstWaitMs / 1000} s: ${lastError}`)
  } finally {
    clearTimeout(patience)
  }
  const now = (): Svid => {
    if (current === undefined) throw new Error('BUG: TLS is asked for before there is an identity')
    return current
  }
  return {
    async load() {
      const { cert, key, bundle } = now()
      return { cert, key, ca: bundle }
    },
    isPeer: certificate => isOfTrustDomain(certificate, now().trustDomain),
    health() {
      const { spiffeId, cert } = now()
      const { validTo } = new X509Certificate(cert)
      const isExpired = Date.parse(validTo) <= clock.now()
      if (isExpired) return { status: 'down', detail: `the identity ${spiffeId} expired at ${validTo}: ${lastError}` }
      return { status: 'ok', detail: `${spiffeId} until ${validTo}` }
    },
    onRotation(fn) {
      rotated = fn
    },
    close,
  }
}

/** An SVID has exactly one URI, its SPIFFE id. */
export function isOfTrustDomain(certificate: X509Certificate, trustDomain: string): boolean {
  const uris = (certificate.subjectAltName ?? '').split(', ').filter(name => name.startsWith('URI:'))
  const [uri = ''] = uris
  return uris.length === 1 && trustDomainOf(uri.slice('URI:'.length)) === trustDomain
}

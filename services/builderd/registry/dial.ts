// undici with a connector that resolves, judges and dials in one step.

import { lookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { Agent, buildConnector } from 'undici'
import { BuildError } from '../errors.ts'
import type { NetworkPolicy } from './network-policy.ts'

const connectTimeoutMs = 10_000
/** Longest wait for the next byte, of the head as of the body. */
export const silenceMsMax = 30_000

export function createDialer(policy: NetworkPolicy): Agent {
  return new Agent({
    allowH2: false,
    headersTimeout: silenceMsMax,
    bodyTimeout: silenceMsMax,
    keepAliveTimeout: 4_000,
    maxHeaderSize: 64 * 1024,
    connect(options, callback) {
      const hostname = options.hostname.replace(/^\[(.*)\]$/, '$1')
      const port = Number(options.port || (options.protocol === 'https:' ? 443 : 80))
      try {
        // An address needs no lookup, so Node would never ask ours.
        if (isIP(hostname)) policy.requireAddresses(hostname, port, [hostname])
      } catch (error) {
        return callback(error instanceof Error ? error : new Error(String(error)), null)
      }
      const connector = buildConnector({
        allowH2: false,
        timeout: connectTimeoutMs,
        lookup: judgedLookup(policy, port),
      })
      connector(options, callback)
    },
  })
}

function judgedLookup(policy: NetworkPolicy, port: number): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(unresolved(hostname, error), '')
      try {
        const usable = new Set(
          policy.requireAddresses(
            hostname,
            port,
            found.map(({ address }) => address),
          ),
        )
        const kept = found.filter(({ address }) => usable.has(address))
        const [first] = kept
        if (options.all) callback(null, kept)
        else callback(null, first?.address ?? '', first?.family)
      } catch (denied) {
        callback(denied instanceof Error ? denied : new Error(String(denied)), '')
      }
    })
  }
}

function unresolved(hostname: string, cause: NodeJS.ErrnoException): NodeJS.ErrnoException {
  // EAI_AGAIN is the resolver being away, worth a retry; a name that does not exist is final.
  if (cause.code === 'EAI_AGAIN') return cause
  return new BuildError('NETWORK_ERROR', `The host name ${hostname} cannot be resolved (${cause.code}).`, cause)
}

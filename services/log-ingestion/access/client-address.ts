// Who is at the other end, when a trusted proxy says so.

import type { IncomingMessage } from 'node:http'
import { BlockList, isIP, isIPv6 } from 'node:net'

/** `loopback`, addresses and CIDR ranges. @throws Error naming the one that is none of these */
export function trustedProxies(entries: readonly string[]): BlockList {
  const trusted = new BlockList()
  for (const entry of entries) {
    const [address = '', prefix] = entry.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (entry === 'loopback') {
      trusted.addSubnet('127.0.0.0', 8, 'ipv4')
      trusted.addAddress('::1', 'ipv6')
    } else if (isIP(address) === 0 || (prefix !== undefined && !/^\d{1,3}$/.test(prefix)))
      throw new Error(`TRUSTED_PROXIES: ${entry} is not loopback, an address or a range such as 10.0.0.0/8`)
    else if (prefix === undefined) trusted.addAddress(address, family)
    else trusted.addSubnet(address, Number(prefix), family)
  }
  return trusted
}

/** The nearest address that is not a trusted proxy, read from the right of X-Forwarded-For. */
export function clientAddress(trusted: BlockList, request: IncomingMessage): string {
  const forwarded = request.headers['x-forwarded-for']
  const hops = (typeof forwarded === 'string' ? forwarded.split(',') : []).map(hop => hop.trim())
  let address = plain(request.socket.remoteAddress ?? '')
  for (let hop = hops.pop(); hop !== undefined && isTrusted(trusted, address); hop = hops.pop()) {
    if (isIP(plain(hop)) === 0) break
    address = plain(hop)
  }
  return address
}

function isTrusted(trusted: BlockList, address: string): boolean {
  return isIP(address) !== 0 && trusted.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '')
}

// Addresses as the SYSLOG_* settings spell them.

import { BlockList, isIP, isIPv6 } from 'node:net'

/** `host:port`, `[v6]:port`, or a port alone for all addresses. Undefined for anything else. */
export function parseHostPort(text: string): { host: string; port: number } | undefined {
  const [, v6, plain, digits = ''] = /^(?:\[([0-9a-fA-F:.]+)\]:|([^\s:]*):)?(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === '' || port > 65_535) return undefined
  return { host: (v6 ?? plain) || '0.0.0.0', port }
}

/** `loopback`, addresses and ranges such as 10.0.0.0/8. Undefined when one is none of these. */
export function parseAllowed(entries: readonly string[]): BlockList | undefined {
  const allowed = new BlockList()
  for (const entry of entries) {
    if (entry === 'loopback') {
      allowed.addSubnet('127.0.0.0', 8, 'ipv4')
      allowed.addAddress('::1', 'ipv6')
      continue
    }
    const [address = '', prefix, ...more] = entry.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    const bits = prefix === undefined ? undefined : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1
    if (isIP(address) === 0 || more.length > 0) return undefined
    if (bits === undefined) allowed.addAddress(address, family)
    else if (bits < 0 || bits > (family === 'ipv6' ? 128 : 32)) return undefined
    else allowed.addSubnet(address, bits, family)
  }
  return allowed
}

export function isTimeZone(zone: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}

// Where a build may connect to. Hosts are judged by name when a URL is made and by address when it is dialled; the
// address that was judged is the one that is dialled, so a name cannot answer differently in between.

import { BlockList, isIP } from 'node:net'
import { BuildError } from '../errors.ts'
import { normaliseRegistry } from '../images/reference.ts'

/** As configuration and tier give it; plain, so that it can be sent to a worker. */
export interface NetworkRules {
  /** Registries that may be named; undefined means any. */
  allowedRegistries: readonly string[] | undefined
  /** host:port that speaks plain HTTP and may be private; allowed by being here. */
  insecureRegistries: readonly string[]
  /** host, host:port or CIDR that may be private. */
  allowedPrivateHosts: readonly string[]
}

export interface NetworkPolicy {
  /** @throws BuildError NETWORK_DENIED */
  requireRegistry(registry: string): void
  isInsecure(hostAndPort: string): boolean
  /** Those of `addresses` that may be dialled for this host. @throws BuildError NETWORK_DENIED when none may */
  requireAddresses(hostname: string, port: number, addresses: readonly string[]): string[]
}

export function createNetworkPolicy(rules: NetworkRules): NetworkPolicy {
  const insecure = new Set(rules.insecureRegistries.map(normaliseRegistry))
  const allowed = rules.allowedRegistries && new Set([...rules.allowedRegistries.map(normaliseRegistry), ...insecure])
  const privateHosts = new Set<string>(insecure)
  const privateRanges = new BlockList()
  for (const entry of rules.allowedPrivateHosts) {
    const [address = '', prefix] = entry.split('/')
    const family = familyOf(address)
    if (prefix !== undefined && family) privateRanges.addSubnet(address, Number(prefix), family)
    else privateHosts.add(entry.toLowerCase())
  }

  const mayBePrivate = (hostname: string, port: number, address: string) => {
    const host = hostname.toLowerCase()
    const named = host.includes(':') ? `[${host}]` : host
    if (privateHosts.has(host) || privateHosts.has(named) || privateHosts.has(`${named}:${port}`)) return true
    const family = familyOf(address)
    return family !== undefined && privateRanges.check(address, family)
  }

  return {
    requireRegistry(registry) {
      if (allowed && !allowed.has(registry))
        throw new BuildError(
          'NETWORK_DENIED',
          `Registry ${registry} is not on the list of this tenant (${[...allowed].join(', ') || 'empty'}). DOCKER_ALLOWED_REGISTRIES or a higher tier would allow it.`,
        )
    },
    isInsecure: hostAndPort => insecure.has(normaliseRegistry(hostAndPort)),
    requireAddresses(hostname, port, addresses) {
      const usable = addresses.filter(address => isPublic(address) || mayBePrivate(hostname, port, address))
      if (usable.length === 0)
        throw new BuildError(
          'NETWORK_DENIED',
          `${hostname}:${port} is at ${addresses.slice(0, 4).join(', ') || 'no address'}, which is not a public address. ALLOWED_PRIVATE_HOSTS, or DOCKER_INSECURE_REGISTRIES for a registry, would allow it.`,
        )
      return usable
    },
  }
}

function familyOf(address: string): 'ipv4' | 'ipv6' | undefined {
  const family = isIP(address)
  return family === 4 ? 'ipv4' : family === 6 ? 'ipv6' : undefined
}

/** IANA's special-purpose registries, as of 2025: everything that is not plain global unicast. */
const special = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carrier-grade NAT
  ['127.0.0.0', 8],
  ['169.254.0.0', 16], // link-local, cloud metadata
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16],
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
] as const)
  special.addSubnet(network, prefix, 'ipv4')
for (const [network, prefix] of [
  ['2001::', 23], // protocol assignments, Teredo among them
  ['2001:db8::', 32],
  ['2002::', 16], // 6to4: an IPv4 address inside
  ['3fff::', 20], // documentation
] as const)
  special.addSubnet(network, prefix, 'ipv6')

const globalUnicast = new BlockList()
globalUnicast.addSubnet('2000::', 3, 'ipv6')

/** IPv4-mapped, NAT64, unique-local and link-local addresses all lie outside 2000::/3. */
export function isPublic(address: string): boolean {
  const family = familyOf(address)
  if (family === undefined) return false
  if (family === 'ipv6' && !globalUnicast.check(address, 'ipv6')) return false
  return !special.check(address, family)
}

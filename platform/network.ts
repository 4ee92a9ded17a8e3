// Which addresses a webhook may never reach: link-local ones lead to the metadata service of a cloud, and its keys.

import { BlockList, isIP, isIPv4 } from 'node:net'

export interface DeniedNetworks {
  has(address: string): boolean
  /** What says so, for whoever gave the address; WEBHOOK_DENY unless told. */
  reason?(address: string): string
}

/** What is wrong with a network of a WEBHOOK_DENY setting; undefined when nothing is. */
export function networkProblem(network: string): string | undefined {
  const [address = '', prefix, ...rest] = network.split('/')
  const family = isIP(address)
  const bits = prefix === undefined ? undefined : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN
  if (family === 0 || rest.length > 0) return 'must be addresses or networks such as 10.0.0.0/8 or fd00::/8'
  if (bits !== undefined && !(bits <= (family === 4 ? 32 : 128))) return `${network} has no such prefix length`
  return undefined
}

export function deniedNetworks(networks: readonly string[]): DeniedNetworks {
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', prefix] = network.split('/')
    const family = isIPv4(address) ? 'ipv4' : 'ipv6'
    if (prefix === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(prefix), family)
  }
  return {
    has(address) {
      const inner = embeddedIPv4(address)
      if (inner !== undefined && list.check(inner, 'ipv4')) return true
      return isIPv4(address) ? list.check(address, 'ipv4') : list.check(address.replace(/%.*$/, ''), 'ipv6')
    },
  }
}

/** The IPv4 address that an IPv6 one stands for: mapped, or translated by NAT64 or 6to4. */
function embeddedIPv4(address: string): string | undefined {
  if (isIPv4(address)) return undefined
  const words = wordsOf(address.replace(/%.*$/, ''))
  if (!words) return undefined
  const isMapped = words.slice(0, 5).every(word => word === 0) && (words[5] === 0xffff || words[5] === 0)
  const isNat64 = words[0] === 0x64 && words[1] === 0xff9b && words.slice(2, 6).every(word => word === 0)
  const is6to4 = words[0] === 0x2002
  if (!isMapped && !isNat64 && !is6to4) return undefined
  const [high = 0, low = 0] = is6to4 ? words.slice(1, 3) : words.slice(6, 8)
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

function wordsOf(address: string): number[] | undefined {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address)
  const [, head = '', a, b, c, d] = dotted ?? []
  const text = dotted
    ? `${head}${(Number(a) * 256 + Number(b)).toString(16)}:${(Number(c) * 256 + Number(d)).toString(16)}`
    : address
  const [left = '', right] = text.split('::')
  const parse = (part: string) => (part === '' ? [] : part.split(':').map(word => Number.parseInt(word, 16)))
  const [front, back] = [parse(left), parse(right ?? '')]
  if (right === undefined) return front.length === 8 ? front : undefined
  return [...front, ...Array<number>(Math.max(0, 8 - front.length - back.length)).fill(0), ...back]
}

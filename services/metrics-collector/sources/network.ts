// Network interface counters from /proc/net/dev and their state from sysfs.

import { chooseInterfaces } from '../interface-choice.ts'
import { counter, gauge, type Reading } from '../sample.ts'
import { hasSys, type Roots, readProc, readSys, readSysNumber } from './files.ts'

export interface NetworkOptions {
  interfacesMax: number
  isWanted: (name: string) => boolean
}

/** The choice outlives one reading: an interface once shown is not replaced by another because the list was reordered. */
export function networkSource(roots: Roots, o: NetworkOptions): () => Promise<Reading[]> {
  let chosen: readonly string[] = []
  const leftOut = new Set<string>()
  return async () => {
    const text = readProc(roots, 'net/dev')
    if (text === undefined) return []
    const counters = parseNetDev(text)
    const names = [...counters.keys()].filter(o.isWanted)
    chosen = chooseInterfaces(names, chosen, name => hasSys(roots, `class/net/${name}/device`), o.interfacesMax)
    for (const name of names) if (!chosen.includes(name) && leftOut.size < 100_000) leftOut.add(name)
    const readings = chosen.flatMap(name => counters.get(name) ?? [])
    for (const name of chosen) readings.push(...(await readState(roots, name)))
    readings.push(counter('network_interfaces_dropped_total', leftOut.size))
    return readings
  }
}

const columns: readonly [string, number][] = [
  ['node_network_receive_bytes_total', 0],
  ['node_network_receive_packets_total', 1],
  ['node_network_receive_errs_total', 2],
  ['node_network_receive_drop_total', 3],
  ['node_network_transmit_bytes_total', 8],
  ['node_network_transmit_packets_total', 9],
  ['node_network_transmit_errs_total', 10],
  ['node_network_transmit_drop_total', 11],
]

/** By interface. The name ends at the last colon: aliases such as `eth0:1` have one of their own. */
export function parseNetDev(text: string): Map<string, Reading[]> {
  const found = new Map<string, Reading[]>()
  for (const line of text.split('\n')) {
    const [, device, rest] = /^\s*(\S+):\s*([\d\s]+)$/.exec(line) ?? []
    const values = rest?.trim().split(/\s+/) ?? []
    if (device === undefined || values.length < 16) continue
    found.set(
      device,
      columns.map(([name, index]) => counter(name, Number(values[index]), { device })),
    )
  }
  return found
}

async function readState(roots: Roots, device: string): Promise<Reading[]> {
  const folder = `class/net/${device}`
  const [state, carrier, changes, mtu, speed] = await Promise.all([
    readSys(roots, `${folder}/operstate`),
    readSysNumber(roots, `${folder}/carrier`),
    readSysNumber(roots, `${folder}/carrier_changes`),
    readSysNumber(roots, `${folder}/mtu`),
    readSysNumber(roots, `${folder}/speed`),
  ])
  const readings: Reading[] = []
  if (state !== undefined) readings.push(gauge('node_network_up', state === 'up' ? 1 : 0, { device }))
  if (carrier !== undefined) readings.push(gauge('node_network_carrier', carrier, { device }))
  if (changes !== undefined) readings.push(counter('node_network_carrier_changes_total', changes, { device }))
  if (mtu !== undefined) readings.push(gauge('node_network_mtu_bytes', mtu, { device }))
  // Mbit/s; virtual interfaces say −1.
  if (speed !== undefined && speed >= 0) readings.push(gauge('node_network_speed_bytes', (speed * 1e6) / 8, { device }))
  return readings
}

export const networkHelp = {
  node_network_receive_bytes_total: 'Bytes received.',
  node_network_receive_packets_total: 'Packets received.',
  node_network_receive_errs_total: 'Packets received in error.',
  node_network_receive_drop_total: 'Packets dropped on receipt.',
  node_network_transmit_bytes_total: 'Bytes sent.',
  node_network_transmit_packets_total: 'Packets sent.',
  node_network_transmit_errs_total: 'Packets that failed to be sent.',
  node_network_transmit_drop_total: 'Packets dropped before being sent.',
  node_network_up: '1 when the interface is operational.',
  node_network_carrier: '1 when the link is there.',
  node_network_carrier_changes_total: 'Times the link came or went.',
  node_network_mtu_bytes: 'Largest packet the interface carries.',
  node_network_speed_bytes: 'Speed of the link in bytes a second.',
  network_interfaces_dropped_total: 'Interfaces left out because network.max_interfaces was reached.',
} as const

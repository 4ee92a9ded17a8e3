// TCP, UDP and socket figures from /proc/net/{snmp,netstat,sockstat}.

import { gauge, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export async function readNetstat(roots: Roots): Promise<Reading[]> {
  const tables = [readProc(roots, 'net/snmp'), readProc(roots, 'net/netstat')]
  const sockets = readProc(roots, 'net/sockstat')
  return [
    ...tables.flatMap(text => (text === undefined ? [] : parseProtocolTable(text))),
    ...(sockets === undefined ? [] : parseSockstat(sockets)),
  ]
}

const protocolFields: Readonly<Record<string, Readonly<Record<string, 'c' | 'g'>>>> = {
  Tcp: { RetransSegs: 'c', CurrEstab: 'g', ActiveOpens: 'c', PassiveOpens: 'c', InErrs: 'c' },
  TcpExt: { ListenDrops: 'c', ListenOverflows: 'c' },
  Udp: { InErrors: 'c', RcvbufErrors: 'c' },
}

/** Lines come in pairs, `Tcp: names…` then `Tcp: numbers…`; a pair whose halves differ in length is not trusted. */
export function parseProtocolTable(text: string): Reading[] {
  const readings: Reading[] = []
  const lines = text.split('\n')
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [protocol = '', ...names] = (lines[i] ?? '').trim().split(/\s+/)
    const [again, ...values] = (lines[i + 1] ?? '').trim().split(/\s+/)
    const wanted = Object.hasOwn(protocolFields, protocol.slice(0, -1))
      ? protocolFields[protocol.slice(0, -1)]
      : undefined
    if (!wanted || again !== protocol || names.length !== values.length) continue
    for (const [index, name] of names.entries()) {
      const kind = Object.hasOwn(wanted, name) ? wanted[name] : undefined
      const value = values[index]
      if (kind === undefined || value === undefined || !/^-?\d+$/.test(value)) continue
      readings.push({ name: `node_netstat_${protocol.slice(0, -1)}_${name}`, labels: {}, kind, value: Number(value) })
    }
  }
  return readings
}

const socketFields: readonly string[] = ['TCP_inuse', 'TCP_tw', 'TCP_alloc', 'UDP_inuse', 'sockets_used']

export function parseSockstat(text: string): Reading[] {
  const readings: Reading[] = []
  for (const line of text.split('\n')) {
    const [protocol = '', ...pairs] = line.trim().split(/\s+/)
    for (let i = 0; i + 1 < pairs.length; i += 2) {
      const field = `${protocol.slice(0, -1)}_${pairs[i]}`
      const value = pairs[i + 1] ?? ''
      if (socketFields.includes(field) && /^-?\d+$/.test(value))
        readings.push(gauge(`node_sockstat_${field}`, Number(value)))
    }
  }
  return readings
}

export const netstatHelp = {
  node_netstat_Tcp_RetransSegs: 'TCP segments sent again.',
  node_netstat_Tcp_CurrEstab: 'TCP connections established now.',
  node_netstat_Tcp_ActiveOpens: 'TCP connections opened from here.',
  node_netstat_Tcp_PassiveOpens: 'TCP connections accepted.',
  node_netstat_Tcp_InErrs: 'TCP segments received in error.',
  node_netstat_TcpExt_ListenDrops: 'Connections dropped at a listening socket.',
  node_netstat_TcpExt_ListenOverflows: 'Connections refused because the accept queue was full.',
  node_netstat_Udp_InErrors: 'UDP datagrams that could not be delivered.',
  node_netstat_Udp_RcvbufErrors: 'UDP datagrams dropped because the receive buffer was full.',
  node_sockstat_TCP_inuse: 'TCP sockets in use.',
  node_sockstat_TCP_tw: 'TCP sockets waiting after close.',
  node_sockstat_TCP_alloc: 'TCP sockets allocated.',
  node_sockstat_UDP_inuse: 'UDP sockets in use.',
  node_sockstat_sockets_used: 'Sockets of all kinds in use.',
} as const

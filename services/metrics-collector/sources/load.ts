// Load averages and the name of the system.

import { loadavg, machine } from 'node:os'
import { gauge, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export async function readLoad(roots: Roots): Promise<Reading[]> {
  const text = readProc(roots, 'loadavg')
  if (text === undefined && process.platform !== 'linux') return loadReadings(loadavg())
  const uname = ['ostype', 'osrelease', 'version', 'hostname', 'domainname'].map(
    file => readProc(roots, `sys/kernel/${file}`)?.trim() ?? '',
  )
  return [...(text === undefined ? [] : parseLoadavg(text)), ...unameReading(uname)]
}

export function parseLoadavg(text: string): Reading[] {
  return loadReadings(
    text
      .trim()
      .split(/\s+/, 3)
      .map(field => (/^\d+(\.\d+)?$/.test(field) ? Number(field) : Number.NaN)),
  )
}

function loadReadings(values: readonly number[]): Reading[] {
  return ['node_load1', 'node_load5', 'node_load15'].flatMap((name, index) => {
    const value = values[index]
    return value === undefined || Number.isNaN(value) ? [] : [gauge(name, value)]
  })
}

function unameReading([sysname = '', release = '', version = '', nodename = '', domainname = '']: readonly string[]) {
  if (sysname === '') return []
  return [gauge('node_uname_info', 1, { sysname, release, version, machine: machine(), nodename, domainname })]
}

export const loadHelp = {
  node_load1: 'Load average over 1 minute.',
  node_load5: 'Load average over 5 minutes.',
  node_load15: 'Load average over 15 minutes.',
  node_uname_info: 'Name and release of the system, value always 1.',
} as const

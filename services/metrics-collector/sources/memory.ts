// Memory from /proc/meminfo, every line of it under node_exporter's names.

import { freemem, totalmem } from 'node:os'
import { gauge, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export async function readMemory(roots: Roots): Promise<Reading[]> {
  const text = readProc(roots, 'meminfo')
  if (text !== undefined) return parseMeminfo(text)
  if (process.platform === 'linux') return []
  return [
    gauge('node_memory_MemTotal_bytes', totalmem()),
    gauge('node_memory_MemFree_bytes', freemem()),
    gauge('node_memory_MemAvailable_bytes', freemem()),
  ]
}

export function parseMeminfo(text: string): Reading[] {
  const readings: Reading[] = []
  for (const line of text.split('\n')) {
    const [, key, value, unit] = /^([A-Za-z0-9_]+(?:\([A-Za-z0-9_]+\))?):\s+(\d+)(?:\s+(kB))?\s*$/.exec(line) ?? []
    if (key === undefined || value === undefined) continue
    const name = `node_memory_${key.replace(/\((.*)\)/, '_$1')}`
    // A plain count, such as HugePages_Total, has no unit in the file and none in the name.
    readings.push(unit === 'kB' ? gauge(`${name}_bytes`, Number(value) * 1_024) : gauge(name, Number(value)))
  }
  return readings
}

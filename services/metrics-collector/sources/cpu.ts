// CPU time, interrupts and processes from /proc/stat.

import { cpus } from 'node:os'
import { counter, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export async function readCpu(roots: Roots): Promise<Reading[]> {
  const stat = readProc(roots, 'stat')
  return stat === undefined ? cpuWithoutProcfs() : parseStat(stat)
}

/** USER_HZ, the unit of /proc/stat: 100 on every architecture Linux exports it for, whatever CONFIG_HZ is. */
const ticksPerSecond = 100

const modes = ['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'] as const

const scalars: Readonly<Record<string, { name: string; kind: 'c' | 'g' }>> = {
  ctxt: { name: 'node_context_switches_total', kind: 'c' },
  intr: { name: 'node_intr_total', kind: 'c' },
  processes: { name: 'node_forks_total', kind: 'c' },
  procs_running: { name: 'node_procs_running', kind: 'g' },
  procs_blocked: { name: 'node_procs_blocked', kind: 'g' },
  btime: { name: 'node_boot_time_seconds', kind: 'g' },
}

export function parseStat(text: string): Reading[] {
  const readings: Reading[] = []
  for (const line of text.split('\n')) {
    const [key = '', ...fields] = line.trim().split(/\s+/, 12)
    const cpu = /^cpu(\d+)$/.exec(key)?.[1]
    if (cpu !== undefined) readings.push(...parseCpu(cpu, fields))
    const scalar = Object.hasOwn(scalars, key) ? scalars[key] : undefined
    const value = whole(fields[0])
    if (scalar && value !== undefined) readings.push({ ...scalar, labels: {}, value })
  }
  return readings
}

function parseCpu(cpu: string, fields: readonly string[]): Reading[] {
  const readings: Reading[] = []
  for (const [index, mode] of modes.entries()) {
    const ticks = whole(fields[index])
    if (ticks !== undefined) readings.push(counter('node_cpu_seconds_total', ticks / ticksPerSecond, { cpu, mode }))
  }
  for (const [index, mode] of (['user', 'nice'] as const).entries()) {
    const ticks = whole(fields[modes.length + index])
    if (ticks !== undefined)
      readings.push(counter('node_cpu_guest_seconds_total', ticks / ticksPerSecond, { cpu, mode }))
  }
  return readings
}

function whole(field: string | undefined): number | undefined {
  return field !== undefined && /^\d+$/.test(field) ? Number(field) : undefined
}

/** What the runtime knows on systems without /proc, under the same names, so that the same charts work there. */
function cpuWithoutProcfs(): Reading[] {
  if (process.platform === 'linux') return []
  return cpus().flatMap(({ times }, index) =>
    Object.entries({ user: times.user, nice: times.nice, system: times.sys, idle: times.idle }).map(([mode, ms]) =>
      counter('node_cpu_seconds_total', ms / 1_000, { cpu: String(index), mode }),
    ),
  )
}

export const cpuHelp = {
  node_cpu_seconds_total: 'Seconds each CPU spent in each mode.',
  node_cpu_guest_seconds_total: 'Seconds each CPU spent running guests, also counted as user or nice.',
  node_context_switches_total: 'Context switches.',
  node_intr_total: 'Interrupts serviced.',
  node_forks_total: 'Processes and threads created.',
  node_procs_running: 'Processes that are runnable.',
  node_procs_blocked: 'Processes waiting for input or output.',
  node_boot_time_seconds: 'Unix time of the last boot.',
} as const

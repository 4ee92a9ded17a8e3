// Paging from /proc/vmstat and stall times from /proc/pressure.

import { counter, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export async function readVmstat(roots: Roots): Promise<Reading[]> {
  const vmstat = readProc(roots, 'vmstat')
  return [
    ...(vmstat === undefined ? [] : parseVmstat(vmstat)),
    ...(['cpu', 'io', 'memory'] as const).flatMap(resource => {
      const text = readProc(roots, `pressure/${resource}`)
      return text === undefined ? [] : parsePressure(resource, text)
    }),
  ]
}

const vmstatFields: readonly string[] = ['pgfault', 'pgmajfault', 'pswpin', 'pswpout', 'oom_kill']

export function parseVmstat(text: string): Reading[] {
  const readings: Reading[] = []
  for (const [, key = '', value] of text.matchAll(/^(\w+) (\d+)$/gm))
    if (vmstatFields.includes(key)) readings.push(counter(`node_vmstat_${key}`, Number(value)))
  return readings
}

/** `some` is time with at least one task waiting, `full` with all of them; totals are microseconds. */
export function parsePressure(resource: 'cpu' | 'io' | 'memory', text: string): Reading[] {
  const readings: Reading[] = []
  for (const [, share, total] of text.matchAll(/^(some|full) .*\btotal=(\d+)$/gm)) {
    // A whole machine cannot stall on its CPUs; the kernel prints a `full` line of zeros there.
    if (resource === 'cpu' && share === 'full') continue
    const state = share === 'some' ? 'waiting' : 'stalled'
    readings.push(counter(`node_pressure_${resource}_${state}_seconds_total`, Number(total) / 1e6))
  }
  return readings
}

export const vmstatHelp = {
  node_vmstat_pgfault: 'Page faults.',
  node_vmstat_pgmajfault: 'Page faults that needed the disk.',
  node_vmstat_pswpin: 'Pages read back from swap.',
  node_vmstat_pswpout: 'Pages written to swap.',
  node_vmstat_oom_kill: 'Processes killed for want of memory.',
  node_pressure_cpu_waiting_seconds_total: 'Seconds in which some task waited for a CPU.',
  node_pressure_io_waiting_seconds_total: 'Seconds in which some task waited for input or output.',
  node_pressure_io_stalled_seconds_total: 'Seconds in which every task waited for input or output.',
  node_pressure_memory_waiting_seconds_total: 'Seconds in which some task waited for memory.',
  node_pressure_memory_stalled_seconds_total: 'Seconds in which every task waited for memory.',
} as const

// All sources of this host, wired to their configuration.

import type { Source } from '../collecting.ts'
import type { Config } from '../config.ts'
import { type SourceName, sourceNames } from '../config-keys.ts'
import { interfaceFilter } from '../interface-choice.ts'
import { compilePattern } from '../pattern.ts'
import type { Reading } from '../sample.ts'
import { cpuHelp, readCpu } from './cpu.ts'
import { diskHelp, readDisk } from './disk.ts'
import { filesystemHelp, filesystemSource } from './filesystem.ts'
import { loadHelp, readLoad } from './load.ts'
import { readMemory } from './memory.ts'
import { netstatHelp, readNetstat } from './netstat.ts'
import { networkHelp, networkSource } from './network.ts'
import { selfHelp } from './self.ts'
import { readThermal, thermalHelp } from './thermal.ts'
import { readVmstat, vmstatHelp } from './vmstat.ts'

type Read = () => Promise<readonly Reading[]>

/** `time` and `self` are known only to the service, so it brings them. */
export function makeSources(config: Config, own: { time: Read; self: Read }): Source[] {
  const { roots, intervalsMs } = config
  const disks = compilePattern(config.diskAllowedDevices)
  const isWanted = interfaceFilter(
    config.interfacesIncluded.map(compilePattern),
    config.interfacesExcluded.map(compilePattern),
  )
  const reads: Record<SourceName, Read> = {
    cpu: () => readCpu(roots),
    load: () => readLoad(roots),
    memory: () => readMemory(roots),
    disk: () => readDisk(roots, device => disks.test(device)),
    filesystem: filesystemSource(roots, { mounts: config.filesystemMounts, deadlineMs: statfsDeadlineMs }),
    network: networkSource(roots, { interfacesMax: config.interfacesMax, isWanted }),
    netstat: () => readNetstat(roots),
    vmstat: () => readVmstat(roots),
    thermal: () => readThermal(roots),
    ...own,
  }
  return sourceNames.flatMap(name => {
    const intervalMs = intervalsMs.get(name)
    return intervalMs === undefined ? [] : [{ name, intervalMs, read: reads[name] }]
  })
}

/** Below half of the shortest interval, so that a dead mount is reported by the source and does not fail all of it. */
const statfsDeadlineMs = 200

const timeHelp = {
  node_time_seconds: 'Wall clock of this machine.',
  time_skew_ms: 'How far the wall clock is ahead of the reference, in milliseconds.',
  clock_skew_seconds: 'How far the wall clock is ahead of the reference.',
  clock_trusted: '1 when timestamps are believed.',
  clock_step_total: 'Times the wall clock was set while running.',
} as const

const helps: readonly [SourceName, Readonly<Record<string, string>>][] = [
  ['cpu', cpuHelp],
  ['load', loadHelp],
  ['disk', diskHelp],
  ['filesystem', filesystemHelp],
  ['network', networkHelp],
  ['netstat', netstatHelp],
  ['vmstat', vmstatHelp],
  ['thermal', thermalHelp],
  ['time', timeHelp],
  ['self', selfHelp],
]

const families = new Map(
  helps.flatMap(([source, help]) =>
    Object.entries(help).map(([name, text]) => [name, { source, help: text }] as const),
  ),
)

/** Which source a family comes from and what it means. */
export function describeFamily(name: string): { source: SourceName; help: string } {
  const known = families.get(name)
  if (known) return known
  if (name.startsWith('node_memory_')) {
    const line = name.slice('node_memory_'.length).replace(/_bytes$/, '')
    return { source: 'memory', help: `Memory: ${line} of /proc/meminfo.` }
  }
  return { source: 'self', help: 'No description.' }
}

// Which interfaces to report when there are more than network.max_interfaces.

import type { Pattern } from './pattern.ts'

/** Interfaces that come and go with containers and would spend the series budget. */
const skippedByDefault = /^(lo|veth.*|docker.*|br-.*|virbr.*|cni.*|cali.*)$/

/** `include` beats `exclude`; without an include list everything but the default skips is wanted. */
export function interfaceFilter(include: readonly Pattern[], exclude: readonly Pattern[]): (name: string) => boolean {
  return name => {
    if (include.some(pattern => pattern.test(name))) return true
    if (include.length > 0 || exclude.some(pattern => pattern.test(name))) return false
    return !skippedByDefault.test(name)
  }
}

/** Already chosen first, then physical, then by name: a reading that was there yesterday is there today. */
export function chooseInterfaces(
  present: readonly string[],
  chosen: readonly string[],
  isPhysical: (name: string) => boolean,
  max: number,
): string[] {
  const kept = chosen.filter(name => present.includes(name)).slice(0, max)
  const others = present
    .filter(name => !kept.includes(name))
    .map(name => ({ name, isPhysical: isPhysical(name) }))
    .sort((a, b) => Number(b.isPhysical) - Number(a.isPhysical) || (a.name < b.name ? -1 : 1))
  return [...kept, ...others.map(other => other.name).slice(0, max - kept.length)]
}

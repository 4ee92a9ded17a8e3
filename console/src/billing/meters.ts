/** What people call the seeded meters; any other meter goes by its own slug. */
const labels = new Map(
  Object.entries({
    vm_cpu: 'VM CPU',
    vm_memory: 'VM memory',
    vm_memory_peak: 'VM memory peak',
    vm_disk_read: 'VM disk read',
    vm_disk_write: 'VM disk written',
    vm_net_rx: 'VM received',
    vm_net_tx: 'VM sent',
    vm_alive: 'VM time',
    build_ms: 'Build time',
    build_count: 'Builds',
    build_pull_bytes: 'Pulled',
    artifact_byte_seconds: 'Artifact storage',
    log_bytes: 'Log volume',
    log_entries: 'Log entries',
    ai_cost: 'AI cost',
    ai_tokens: 'AI tokens',
    ai_requests: 'AI calls',
  }),
)

export function meterLabel(meter: string): string {
  return labels.get(meter) ?? meter
}

const gib = 1n << 30n
const hourNs = 3_600_000_000_000n

/** A unit that people count in, and how many base units it holds. */
export interface MeterUnit {
  name: string
  per: bigint
}

/** The units a price of a meter may be per, the usual one first. Base units are what quantities are stored in. */
export function unitsOf(unit: string, meter = ''): readonly [MeterUnit, ...MeterUnit[]] {
  const one: MeterUnit = { name: unit === '' ? 'unit' : unit, per: 1n }
  switch (unit) {
    case 'ns':
      return [{ name: meter.includes('cpu') ? 'core-hour' : 'hour', per: hourNs }, one]
    case 'byte-ns':
      return [{ name: 'GiB-hour', per: gib * hourNs }, one]
    case 'byte-s':
      return [{ name: 'GiB-hour', per: gib * 3600n }, one]
    case 'bytes':
      return [{ name: 'GiB', per: gib }, { name: 'MiB', per: 1n << 20n }, one]
    case 'ms':
      return [{ name: 'minute', per: 60_000n }, { name: 'hour', per: 3_600_000n }, one]
    case 'tokens':
    case 'entries':
      return [{ name: `million ${unit}`, per: 1_000_000n }, { name: `thousand ${unit}`, per: 1_000n }, one]
    default:
      return [one, { name: `thousand ${one.name}`, per: 1_000n }]
  }
}

/** Units of the built-in meters, for places that know no more than the slug. */
export function unitOfMeter(meter: string): string {
  const units = new Map(
    Object.entries({
      vm_cpu: 'ns',
      vm_alive: 'ns',
      vm_memory: 'byte-ns',
      build_ms: 'ms',
      artifact_byte_seconds: 'byte-s',
      log_entries: 'entries',
      ai_cost: 'nano',
      ai_tokens: 'tokens',
      ai_requests: 'requests',
      build_count: 'builds',
    }),
  )
  return units.get(meter) ?? (/^vm_|_bytes$/.test(meter) ? 'bytes' : '')
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** Binary units with three significant digits: `1.25 GiB`. Takes bigint too, because counters are 64-bit. */
export function formatBytes(bytes: number | bigint): string {
  // The lost low bits of a counter above 2⁵³ are far below the three digits shown.
  let value = Number(bytes)
  if (!Number.isFinite(value)) return '–'
  let unit = 0
  while (Math.abs(value) >= 1023.5 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? Math.round(value) : threeDigits(value)} ${units[unit]}`
}

export function formatBytesPerSecond(bytes: number): string {
  return `${formatBytes(bytes)}/s`
}

function threeDigits(value: number): string {
  const abs = Math.abs(value)
  return value.toFixed(abs >= 99.95 ? 0 : abs >= 9.995 ? 1 : 2)
}

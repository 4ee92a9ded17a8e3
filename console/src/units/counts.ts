/** A whole count with thousands separators: `12,480`. */
export function formatCount(count: number | bigint): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ',')
}

/** For headlines and axes, where the size matters and not the last digit: `12.5 k`. */
export function formatCountShort(count: number | bigint): string {
  let value = Number(count)
  if (!Number.isFinite(value)) return '–'
  const units = ['', ' k', ' M', ' G', ' T']
  let unit = 0
  while (Math.abs(value) >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  if (unit === 0) return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 1 : 0)
  return `${value.toFixed(Math.abs(value) >= 99.95 ? 0 : 1)}${units[unit]}`
}

/** A rate of events: `0.2/s`, `12.5/s`, `1.2 k/s`. */
export function formatPerSecond(rate: number): string {
  return `${formatCountShort(rate !== 0 && Math.abs(rate) < 100 ? Number(rate.toFixed(1)) : Math.round(rate))}/s`
}

/** A share of 0…1 as a percentage: `3.4 %`, `72 %`. */
export function formatPercent(share: number): string {
  if (!Number.isFinite(share)) return '–'
  const percent = share * 100
  return `${percent.toFixed(Math.abs(percent) < 9.95 && percent !== 0 ? 1 : 0)} %`
}

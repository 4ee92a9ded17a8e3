import type { Column } from '../series/table.ts'

/** A shape, not a reading: the number stands beside it. */
export function Sparkline({ values, color, max }: { values: Column; color: string; max?: number }) {
  const known = values.filter(value => value !== null)
  const top = Math.max(max ?? 0, ...known) || 1
  const step = values.length > 1 ? 100 / (values.length - 1) : 100
  let path = ''
  let isOpen = false
  values.forEach((value, i) => {
    if (value === null) {
      isOpen = false
      return
    }
    path += `${isOpen ? 'L' : 'M'}${(i * step).toFixed(2)} ${(27 - (value / top) * 25).toFixed(2)}`
    isOpen = true
  })
  return (
    <svg className="sparkline" viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">
      <path d={path} stroke={color} />
    </svg>
  )
}

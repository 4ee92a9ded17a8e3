/** A quantile of ascending numbers. */
export function at(sorted: readonly number[], share: number): string {
  return (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1)
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en')
}

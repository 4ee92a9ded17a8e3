// Comparisons of whole amounts, which Math cannot do for bigint.

export function least(a: bigint, b: bigint): bigint {
  if (a < b) return a
  return b
}

export function most(a: bigint, b: bigint): bigint {
  if (a > b) return a
  return b
}

export function notNegative(a: bigint): bigint {
  return most(a, 0n)
}

export function sum(amounts: Iterable<bigint>): bigint {
  let total = 0n
  for (const amount of amounts) total += amount
  return total
}

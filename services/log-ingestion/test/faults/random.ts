// Numbers that a seed repeats.

export interface Random {
  /** 0 … n-1 */
  below(n: number): number
  /** Both inclusive. */
  between(least: number, most: number): number
  /** 0 … 1 */
  share(): number
  chance(share: number): boolean
  pick<T>(list: readonly [T, ...T[]] | readonly T[]): T
}

/** mulberry32: 32 bits of state, good enough to choose moments by. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const share = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (n: number) => Math.floor(share() * n)
  return {
    below,
    share,
    between: (least, most) => least + below(most - least + 1),
    chance: wanted => share() < wanted,
    pick(list) {
      const item = list[below(list.length)]
      if (item === undefined) throw new Error('BUG: nothing to choose from')
      return item
    },
  }
}

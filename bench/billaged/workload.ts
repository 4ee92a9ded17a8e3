// What the VMs of a run do, as a function of seed, VM and tick: the load generator sends it, the oracle folds it, and
// neither needs to ask the other. Imports nothing.

export interface Reading {
  atNs: bigint
  /** CPU, memory, disk read, disk write, network in, network out. */
  values: readonly bigint[]
}

export interface Shape {
  seed: number
  baseNs: bigint
  stepNs: bigint
  samplesPerBatch: number
  /** One VM in so many restarts its counters unannounced, once, in the middle of its first batch. 0: none. */
  resetEvery: number
}

const rates = [61_000_000n, 0n, 4_096n, 8_192n, 1_500n, 900n]

/** Reading number `n` of a VM. Counters rise unevenly; memory goes up and down. */
export function readingOf(shape: Shape, vm: number, n: number): Reading {
  const i = BigInt(n)
  const noise = BigInt(mix(shape.seed, vm, n))
  const resetAt = shape.resetEvery > 0 && vm % shape.resetEvery === 0 ? Math.floor(shape.samplesPerBatch / 2) : -1
  const age = resetAt >= 0 && n >= resetAt ? BigInt(n - resetAt) : i + 10_000n
  return {
    atNs: shape.baseNs + i * shape.stepNs + (noise % 1_000n) * 1_000n,
    // CPU time moves with every reading; disk and network in steps of four readings.
    values: rates.map((rate, f) =>
      f === 0
        ? age * rate + (noise % 1_000n) * 2_000n
        : f === 1
          ? 2_147_483_648n + 4_096n * (noise % 7n)
          : (age / 4n + age / 64n) * rate,
    ),
  }
}

/** Thirty bits that look random: a finaliser over the three numbers. */
function mix(seed: number, vm: number, n: number): number {
  let x = Math.imul(seed ^ Math.imul(vm + 1, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(n + 1, 0xc2b2ae35)
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d)
  x = Math.imul(x ^ (x >>> 12), 0x297a2d39)
  return (x ^ (x >>> 15)) >>> 2
}

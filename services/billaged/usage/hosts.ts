/** What heartbeats say about one VM. Listings of a host that are no further apart than a lease are one run. */
export interface Hosts {
  leaseNs: bigint
  /** Of any host: from the first listing of a run to its last; ascending, apart from one another by more than a lease. */
  runs: readonly Run[]
  /** The same of each host that ever listed the VM near the span asked for. */
  ofEach: readonly (readonly Run[])[]
  /** The first listing of all. Before it nothing is known about a host, so none can have been down. */
  firstListedNs: bigint | null
}

export interface Run {
  fromNs: bigint
  lastNs: bigint
}

export const noHosts: Hosts = { leaseNs: 0n, runs: [], ofEach: [], firstListedNs: null }

/** How near to a pair of readings two hosts must list the VM to make the pair disputed (G15). */
export const disputeNs = 120_000_000_000n

/** Whether two hosts claimed the VM within two minutes of [fromNs, toNs]. */
export function isDisputed({ ofEach }: Hosts, fromNs: bigint, toNs: bigint): boolean {
  if (ofEach.length < 2) return false
  let claiming = 0
  for (const runs of ofEach) if (touches(runs, fromNs - disputeNs, toNs + disputeNs) && ++claiming === 2) return true
  return false
}

/** Does any run have a point in [fromNs, toNs]? */
function touches(runs: readonly Run[], fromNs: bigint, toNs: bigint): boolean {
  const run = runs[firstEndingFrom(runs, fromNs)]
  return run !== undefined && run.fromNs <= toNs
}

/** Index of the first run that ends at or after an instant. */
export function firstEndingFrom(runs: readonly Run[], atNs: bigint): number {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((runs[middle]?.lastNs ?? atNs) < atNs) low = middle + 1
    else high = middle
  }
  return low
}

/** The pieces of [fromNs, toNs) in which no host vouched for the VM: outside every lease, and not before the first. */
export function withoutHost(hosts: Hosts, fromNs: bigint, toNs: bigint): { fromNs: bigint; toNs: bigint }[] {
  const { runs, leaseNs, firstListedNs } = hosts
  if (firstListedNs === null || firstListedNs >= toNs) return []
  const pieces: { fromNs: bigint; toNs: bigint }[] = []
  let at = firstListedNs > fromNs ? firstListedNs : fromNs
  for (let i = firstEndingFrom(runs, at - leaseNs); i < runs.length; i++) {
    const run = runs[i]
    if (run === undefined || run.fromNs >= toNs) break
    if (run.fromNs > at) pieces.push({ fromNs: at, toNs: run.fromNs })
    if (run.lastNs + leaseNs > at) at = run.lastNs + leaseNs
  }
  if (at < toNs) pieces.push({ fromNs: at, toNs })
  return pieces
}

// What a tenant may use: the tier's figures, the operator's overrides, and a request that may only lower them.

export type Tier = 'free' | 'pro' | 'enterprise' | 'dedicated'

export const tiers: readonly Tier[] = ['free', 'pro', 'enterprise', 'dedicated']

export interface Limits {
  buildsMax: number
  dailyBuildsMax: number
  buildMinutesMax: number
  timeoutS: number
  memoryBytesMax: number
  coresMax: number
  diskBytesMax: number
  storageBytesMax: number
  /** Whether RUN steps of Dockerfiles get a network. */
  hasNetwork: boolean
  /** Undefined means any. */
  registries: readonly string[] | undefined
  gitHosts: readonly string[] | undefined
  blockedCommands: readonly string[]
  sandboxLevel: number
  retentionDays: number
}

/** The figures that can be overridden, per tenant or for the default tier. */
export type LimitFigures = Pick<
  Limits,
  | 'buildsMax'
  | 'dailyBuildsMax'
  | 'buildMinutesMax'
  | 'timeoutS'
  | 'memoryBytesMax'
  | 'coresMax'
  | 'diskBytesMax'
  | 'storageBytesMax'
>

const mib = 1024 ** 2
const gib = 1024 ** 3
const tib = 1024 ** 4

const shared = { blockedCommands: [], sandboxLevel: 1 } as const

const table: Readonly<Record<Tier, Limits>> = {
  free: {
    ...shared,
    buildsMax: 1,
    dailyBuildsMax: 5,
    buildMinutesMax: 5,
    timeoutS: 300,
    memoryBytesMax: 512 * mib,
    coresMax: 1,
    diskBytesMax: gib,
    storageBytesMax: gib,
    hasNetwork: false,
    registries: ['docker.io', 'ghcr.io'],
    gitHosts: ['github.com', 'gitlab.com'],
    retentionDays: 30,
  },
  pro: {
    ...shared,
    buildsMax: 3,
    dailyBuildsMax: 100,
    buildMinutesMax: 15,
    timeoutS: 900,
    memoryBytesMax: 2 * gib,
    coresMax: 2,
    diskBytesMax: 10 * gib,
    storageBytesMax: 10 * gib,
    hasNetwork: true,
    registries: undefined,
    gitHosts: undefined,
    retentionDays: 30,
  },
  enterprise: {
    ...shared,
    buildsMax: 10,
    dailyBuildsMax: 1_000,
    buildMinutesMax: 30,
    timeoutS: 1_800,
    memoryBytesMax: 8 * gib,
    coresMax: 4,
    diskBytesMax: 100 * gib,
    storageBytesMax: 100 * gib,
    hasNetwork: true,
    registries: undefined,
    gitHosts: undefined,
    retentionDays: 90,
  },
  dedicated: {
    ...shared,
    buildsMax: 50,
    dailyBuildsMax: 10_000,
    buildMinutesMax: 60,
    timeoutS: 3_600,
    memoryBytesMax: 32 * gib,
    coresMax: 16,
    diskBytesMax: tib,
    storageBytesMax: tib,
    hasNetwork: true,
    registries: undefined,
    gitHosts: undefined,
    retentionDays: 90,
  },
}

/** A tenant's share of the slots when several wait. */
export const weightOf: Readonly<Record<Tier, number>> = { free: 1, pro: 2, enterprise: 4, dedicated: 8 }

export interface LimitSettings {
  defaultTier: Tier
  /** For the default tier. */
  defaultFigures: Partial<LimitFigures>
  /** Replaces every tier's list when set. */
  allowedRegistries: readonly string[] | undefined
  retentionDays: number | undefined
}

export function tierLimits(tier: Tier, settings: LimitSettings, overrides: Partial<LimitFigures> = {}): Limits {
  return {
    ...table[tier],
    ...(tier === settings.defaultTier ? settings.defaultFigures : {}),
    ...(settings.allowedRegistries && { registries: settings.allowedRegistries }),
    ...(settings.retentionDays !== undefined && { retentionDays: settings.retentionDays }),
    ...overrides,
  }
}

/** What a request asks for; zero and empty mean "as the tier says". */
export interface RequestedLimits extends LimitFigures {
  registries: readonly string[]
  gitHosts: readonly string[]
  blockedCommands: readonly string[]
  sandboxLevel: number
}

/** Never higher than before: figures take the lower, lists intersect, bans add up. */
export function lowered(limits: Limits, requested: RequestedLimits | undefined): Limits {
  if (!requested) return limits
  const lower = (have: number, want: number) => (want > 0 ? Math.min(have, want) : have)
  const intersect = (have: readonly string[] | undefined, want: readonly string[]) =>
    want.length === 0 ? have : (have?.filter(entry => want.includes(entry)) ?? want)
  return {
    ...limits,
    buildsMax: lower(limits.buildsMax, requested.buildsMax),
    dailyBuildsMax: lower(limits.dailyBuildsMax, requested.dailyBuildsMax),
    buildMinutesMax: lower(limits.buildMinutesMax, requested.buildMinutesMax),
    timeoutS: lower(limits.timeoutS, requested.timeoutS),
    memoryBytesMax: lower(limits.memoryBytesMax, requested.memoryBytesMax),
    coresMax: lower(limits.coresMax, requested.coresMax),
    diskBytesMax: lower(limits.diskBytesMax, requested.diskBytesMax),
    storageBytesMax: lower(limits.storageBytesMax, requested.storageBytesMax),
    registries: intersect(limits.registries, requested.registries),
    gitHosts: intersect(limits.gitHosts, requested.gitHosts),
    blockedCommands: [...new Set([...limits.blockedCommands, ...requested.blockedCommands])],
    sandboxLevel: Math.max(limits.sandboxLevel, requested.sandboxLevel),
  }
}

/** How long a build may run, all its attempts together. */
export function runningMsMax(limits: Limits, buildTimeoutMs: number): number {
  return Math.min(buildTimeoutMs, limits.timeoutS * 1_000, limits.buildMinutesMax * 60_000)
}

/** Builds of one tenant that may wait. */
export function queuedMax(limits: Limits): number {
  return Math.max(20, 10 * limits.buildsMax)
}

// The life of a build. States only move forward, or to an end, or back to PENDING when the build is resumed:
//
//   PENDING → PULLING → EXTRACTING → BUILDING → OPTIMIZING → COMPLETED
//   any of the first five → FAILED
//   PENDING → CANCELLED; a running build → CLEANING → CANCELLED
//   a running build whose daemon died or drains → PENDING

import type { Step } from './build/job.ts'

export const buildStates = [
  'PENDING',
  'PULLING',
  'EXTRACTING',
  'BUILDING',
  'OPTIMIZING',
  'COMPLETED',
  'FAILED',
  'CANCELLED',
  'CLEANING',
] as const

export type BuildState = (typeof buildStates)[number]

export const terminalStates: readonly BuildState[] = ['COMPLETED', 'FAILED', 'CANCELLED']
export const runningStates: readonly BuildState[] = ['PULLING', 'EXTRACTING', 'BUILDING', 'OPTIMIZING', 'CLEANING']

export function isTerminal(state: BuildState): boolean {
  return terminalStates.includes(state)
}

export const stateOfStep: Readonly<Record<Step, BuildState>> = {
  resolve: 'PULLING',
  pull: 'PULLING',
  index: 'EXTRACTING',
  merge: 'EXTRACTING',
  write: 'BUILDING',
  verify: 'OPTIMIZING',
  publish: 'OPTIMIZING',
}

/** Losing its daemon this often is a build's own doing. */
export const lostAttemptsMax = 3

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** `build_` and a ULID: 48 bits of time, 80 random ones, so that ids sort by creation and nobody guesses one. */
export function newBuildId(nowMs: number, random: Uint8Array): string {
  let value = BigInt(nowMs)
  for (const byte of random.subarray(0, 10)) value = value * 256n + BigInt(byte)
  let text = ''
  for (let i = 0; i < 26; i++) {
    text = (alphabet[Number(value & 31n)] ?? '') + text
    value >>= 5n
  }
  return `build_${text}`
}

export function isBuildId(text: string): boolean {
  return /^build_[0-9A-HJKMNP-TV-Z]{26}$/.test(text)
}

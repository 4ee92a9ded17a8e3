// What daemon and worker say to each other, as JSON over Node's IPC channel.

import type { BuildResult, FailedBuild, Job, LogLine, Step } from '../build/job.ts'

export type ToWorker =
  | { type: 'run'; job: Job }
  | { type: 'answer'; id: number; value?: boolean; failure?: FailedBuild }

export type Question =
  | { what: 'pinned'; digest: string }
  | { what: 'mayReuse'; digest: string }
  | { what: 'have'; digest: string; bytes: number; isAnonymous: boolean; wasCached: boolean }
  | { what: 'reserve'; bytes: number }
  /** Steps are asked, not told: nothing of a step happens before its start is written down. */
  | { what: 'step'; step: Step; event: 'started' | 'ended' }

export type FromWorker =
  | { type: 'ready' }
  | { type: 'log'; line: LogLine }
  | { type: 'progress'; percent: number; current: string }
  | { type: 'pulled'; bytes: number }
  | { type: 'ask'; id: number; question: Question }
  | { type: 'done'; result: BuildResult }
  | { type: 'failed'; failure: FailedBuild }

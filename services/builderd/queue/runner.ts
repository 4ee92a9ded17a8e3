// One claimed build from worker to verdict.
//
//   preparing → running → publishing → ended
//   running ends by: result, failure, the worker dying, the time limit, a cancel, a lost lease, or the daemon draining.
//   Whatever comes first decides; the worker is gone before anything is published or given back.

import { chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isUnavailable } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import type { BuildResult, FailedBuild, Job, Step } from '../build/job.ts'
import { asBuildError } from '../errors.ts'
import { QuotaExceeded } from '../quotas/violation.ts'
import { scrub } from '../secrets.ts'
import { mayReuseBlob, noteOrigin } from '../store/blobs.ts'
import type { Build, Isolation } from '../store/build.ts'
import { type Ends, finishOwned, type Outcome, reserveStorage } from '../store/finish.ts'
import { endStep, leaseS, pinManifest, requeue, startStep } from '../store/leases.ts'
import type { Lease } from '../store/logs.ts'
import type { FromWorker, Question } from '../worker/messages.ts'
import { type BuildUser, type Gone, startWorker, type Worker } from '../worker/process.ts'
import { openLogWriter } from './log-writer.ts'
import { publish } from './publish.ts'

export interface RunnerOptions {
  ends: Ends
  log: Logger
  clock: Clock
  /** Of this life of the daemon; builds get folders below it. */
  scratchDir: string
  outputDir: string
  user: BuildUser | undefined
  isolation: readonly string[]
  memoryBytesMax: number
  /** How long this build may still run. */
  runningMsMax: number
  makeJob: (build: Build, scratchDir: string) => Promise<Job>
  onStep: (step: Step, seconds: number, hasFailed: boolean) => void
  onBlob: (wasCached: boolean) => void
}

export interface Run {
  lease: Lease
  build: Build
  cancel(): void
  /** Someone else owns the build now: stop, and touch nothing of it. */
  lose(): void
  /** Back into the queue, with what was pulled. */
  drain(): void
  /** Never rejects. */
  ended: Promise<Verdict>
}

export type Verdict = Outcome['state'] | 'LOST' | 'REQUEUED'

type Stop = 'cancel' | 'lose' | 'drain' | 'timeout'

export function startRun(build: Build, lease: Lease, o: RunnerOptions): Run {
  const stopping = new AbortController()
  const stop = (why: Stop) => {
    // A lost lease outranks everything: what is not ours is not touched.
    if (!stopping.signal.aborted) stopping.abort(why)
  }
  const ended = live(build, lease, o, stopping).catch((error: unknown): Verdict => {
    // The lease runs out by itself, and the build goes to someone who is better off.
    o.log.error({ err: error, buildId: build.buildId }, 'a build could not be ended; its lease will expire')
    return 'LOST'
  })
  return {
    lease,
    build,
    cancel: () => stop('cancel'),
    lose: () => stop('lose'),
    drain: () => stop('drain'),
    ended,
  }
}

async function live(build: Build, lease: Lease, o: RunnerOptions, stopping: AbortController): Promise<Verdict> {
  const { clock, log } = o
  const { buildId } = build
  const startedMs = clock.monotonicMs()
  const spent = { runningMs: 0, pulledBytes: Number(build.pulledBytes) }
  const measure = () => {
    spent.runningMs = Number(build.runningMs) + Math.round(clock.monotonicMs() - startedMs)
    return spent
  }
  const writer = openLogWriter({
    sql: o.ends.sql,
    lease,
    log,
    clock,
    spent: measure,
    onLost: () => stopping.abort('lose'),
  })
  const scratchDir = join(o.scratchDir, buildId)
  const timer = setTimeout(() => stopping.abort('timeout'), Math.max(0, o.runningMsMax - Number(build.runningMs)))
  const isolation: Isolation = { sandboxId: `${buildId}.${build.attempt}`, securityContexts: o.isolation }
  const journal = openStepJournal(build, lease, o)

  const finish = async (outcome: Outcome): Promise<Verdict> => {
    await journal.end(outcome.state === 'COMPLETED' ? undefined : outcome.state)
    if (!(await writer.flush())) return 'LOST'
    const answer = await untilLeaseEnds(clock, () =>
      finishOwned(o.ends, lease, outcome, { ...measure(), isolation }, clock.now()),
    )
    if (answer === 'lost') return 'LOST'
    if (answer === 'done') return outcome.state
    if (outcome.state === 'COMPLETED') await rm(join(o.outputDir, buildId), { recursive: true, force: true })
    return finish({ state: 'CANCELLED' })
  }

  try {
    writer.add({ level: 'info', component: 'scheduler', message: `started, attempt ${build.attempt}` })
    const ending = await work()
    if (ending.is === 'stopped') {
      switch (ending.why) {
        case 'lose':
          return 'LOST'
        case 'cancel':
          return await finish({ state: 'CANCELLED' })
        case 'drain':
          await writer.flush()
          await untilLeaseEnds(clock, () => requeue(o.ends, { lease }, 'drained', clock.now()))
          return 'REQUEUED'
        case 'timeout': {
          const message = `The build ran ${Math.round(measure().runningMs / 1_000)} s; at most ${Math.round(o.runningMsMax / 1_000)} s are allowed (BUILD_TIMEOUT, the tier, or the request's limits).`
          log.warn({ buildId, tenant: build.tenantId }, `timeout: ${message}`)
          return await finish({ state: 'FAILED', code: 'BUILD_TIMEOUT', message })
        }
        default:
          return ending.why satisfies never
      }
    }
    if (ending.is === 'died') {
      if (ending.gone.why === 'memory') {
        const message = `memory quota exceeded: the build used ${ending.gone.bytes} of ${o.memoryBytesMax} bytes. Use a smaller image or a higher tier.`
        return await finish({ state: 'FAILED', code: 'QUOTA_EXCEEDED', message })
      }
      log.error({ buildId, how: ending.gone.how }, 'a build process died')
      await writer.flush()
      await untilLeaseEnds(clock, () => requeue(o.ends, { lease }, 'died', clock.now()))
      return 'REQUEUED'
    }
    if (ending.is === 'failed') {
      if (ending.failure.detail !== undefined)
        log.error({ buildId, detail: ending.failure.detail, code: ending.failure.code }, 'build failed')
      return await finish({ state: 'FAILED', ...ending.failure })
    }
    await journal.start('publish')
    await publish({
      scratchDir,
      targetDir: join(o.outputDir, buildId),
      epoch: lease.epoch,
      buildId,
      tenantId: build.tenantId,
      createdAt: build.createdAt,
      result: ending.result,
    })
    writer.add({ level: 'info', component: 'publisher', message: `published ${build.rootfsPath}` })
    return await finish({ state: 'COMPLETED', result: ending.result })
  } catch (error) {
    const { code, message } = asBuildError(error)
    log.error({ err: error, buildId }, 'build failed outside its process')
    return await finish({ state: 'FAILED', code, message })
  } finally {
    clearTimeout(timer)
    writer.close()
    await rm(scratchDir, { recursive: true, force: true })
  }

  async function work(): Promise<Ending> {
    await rm(scratchDir, { recursive: true, force: true })
    await mkdir(scratchDir, { recursive: true, mode: 0o700 })
    if (o.user) await chown(scratchDir, o.user.uid, o.user.gid)
    const job = await untilLeaseEnds(clock, () => o.makeJob(build, scratchDir))
    const credentials = job.source.kind === 'registry' ? job.source.credentials : undefined
    return runWorker(job, stopping.signal, o, {
      onMessage(message, worker) {
        switch (message.type) {
          case 'log':
            writer.add({ ...message.line, message: scrub(message.line.message, credentials) })
            return
          case 'progress':
            writer.progress(message.percent, message.current)
            return
          case 'pulled':
            spent.pulledBytes += message.bytes
            return
          case 'ask':
            // An answer is worth waiting for the database: a build is not failed by an outage it can outlive.
            void untilLeaseEnds(clock, () => answer(message.question, job)).then(
              value => worker.send({ type: 'answer', id: message.id, value }),
              error => worker.send({ type: 'answer', id: message.id, failure: failureOf(error) }),
            )
            return
        }
      },
      onStderr: text => log.warn({ buildId, stderr: scrub(text, credentials) }, 'a build process wrote to stderr'),
    })
  }

  async function answer(question: Question, job: Job): Promise<boolean> {
    const { sql } = o.ends
    const origin =
      job.source.kind === 'registry'
        ? { registry: job.source.registry, repository: job.source.repository }
        : { registry: 'local', repository: job.source.kind === 'layout' ? job.source.path : 'sample' }
    switch (question.what) {
      case 'step':
        if (question.event === 'started') await journal.start(question.step)
        else await journal.end(undefined)
        return true
      case 'pinned':
        await pinManifest(sql, lease, question.digest)
        return true
      case 'mayReuse':
        return mayReuseBlob(sql, { ...origin, digest: question.digest, registries: job.rules.allowedRegistries })
      case 'have': {
        const { digest, bytes, isAnonymous, wasCached } = question
        o.onBlob(wasCached)
        if (!wasCached) await noteOrigin(sql, { ...origin, digest, isAnonymous, bytes: BigInt(bytes) })
        return true
      }
      case 'reserve':
        await reserveStorage(sql, lease, question.bytes, build.limits.storageBytesMax)
        return true
      default:
        return question satisfies never
    }
  }
}

type Ending =
  | { is: 'done'; result: BuildResult }
  | { is: 'failed'; failure: FailedBuild }
  | { is: 'died'; gone: Gone }
  | { is: 'stopped'; why: Stop }

/** Resolves when the process is gone, to whatever decided first. */
function runWorker(
  job: Job,
  signal: AbortSignal,
  o: RunnerOptions,
  on: { onMessage: (message: FromWorker, worker: Worker) => void; onStderr: (text: string) => void },
): Promise<Ending> {
  return new Promise(resolve => {
    let ending: Ending | undefined
    const worker = startWorker({
      user: o.user,
      cacheDir: job.cacheDir,
      scratchDir: job.scratchDir,
      memoryBytesMax: o.memoryBytesMax,
      onStderr: on.onStderr,
      onMessage(message) {
        if (message.type === 'ready') worker.run(job)
        else if (message.type === 'done') ending ??= { is: 'done', result: message.result }
        else if (message.type === 'failed') ending ??= { is: 'failed', failure: message.failure }
        else on.onMessage(message, worker)
      },
      onGone(gone) {
        signal.removeEventListener('abort', stop)
        resolve(ending ?? { is: 'died', gone })
      },
    })
    const stop = () => {
      ending ??= { is: 'stopped', why: signal.reason }
      worker.kill()
    }
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}

/** Steps as rows, one open at a time. */
function openStepJournal(build: Build, lease: Lease, { ends, clock, onStep }: RunnerOptions) {
  let open: { step: Step; startedMs: number } | undefined
  const end = async (error: string | undefined) => {
    if (!open) return
    const { step, startedMs } = open
    open = undefined
    onStep(step, (clock.monotonicMs() - startedMs) / 1_000, error !== undefined)
    const result = error === undefined ? 'ok' : 'failed'
    await untilLeaseEnds(clock, () =>
      endStep(ends.sql, lease, build.attempt, step, new Date(clock.now()), result, error),
    )
  }
  return {
    end,
    async start(step: Step) {
      await end(undefined)
      open = { step, startedMs: clock.monotonicMs() }
      await untilLeaseEnds(clock, () => startStep(ends.sql, lease, build.attempt, step, new Date(clock.now())))
    },
  }
}

/** A verdict is worth waiting for the database, as long as the lease can still be ours. */
async function untilLeaseEnds<T>(clock: Clock, work: () => Promise<T>): Promise<T> {
  const deadlineMs = clock.monotonicMs() + leaseS * 1_000
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isUnavailable(error) || clock.monotonicMs() > deadlineMs) throw error
      await sleep(500)
    }
  }
}

function failureOf(error: unknown): FailedBuild {
  if (error instanceof QuotaExceeded) return { code: 'QUOTA_EXCEEDED', message: `${error.message}.` }
  const { code, message } = asBuildError(error)
  return { code, message }
}

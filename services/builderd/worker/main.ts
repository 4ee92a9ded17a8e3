// A build process: one job, then the end. It parses what strangers packed, so it holds no database and no secret but
// those of its own job, which come over a pipe. It dies with the daemon: when the channel closes, it leaves at once.

import { systemClock } from '#platform/time'
import type { BuildHost, FailedBuild, Job } from '../build/job.ts'
import { runBuild } from '../build/pipeline.ts'
import { asBuildError, BuildError } from '../errors.ts'
import type { FromWorker, Question, ToWorker } from './messages.ts'

const waiting = new Map<number, { resolve: (value: boolean) => void; reject: (error: Error) => void }>()
let lastId = 0

process.on('disconnect', () => process.exit(1))
process.on('message', (message: ToWorker) => {
  if (message.type === 'run') void run(message.job)
  else answer(message)
})
tell({ type: 'ready' })

async function run(job: Job) {
  const host: BuildHost = {
    log: line => tell({ type: 'log', line }),
    progress: (percent, current) => tell({ type: 'progress', percent, current }),
    pulled: bytes => tell({ type: 'pulled', bytes }),
    step: async (step, event) => void (await ask({ what: 'step', step, event })),
    pinned: async digest => void (await ask({ what: 'pinned', digest })),
    mayReuse: digest => ask({ what: 'mayReuse', digest }),
    have: async (digest, bytes, how) => void (await ask({ what: 'have', digest, bytes, ...how })),
    reserve: async bytes => void (await ask({ what: 'reserve', bytes })),
  }
  try {
    // Nothing aborts a worker from inside: the daemon kills it.
    const result = await runBuild(job, { host, clock: systemClock, signal: new AbortController().signal })
    leave({ type: 'done', result })
  } catch (error) {
    const { code, message, cause } = asBuildError(error)
    const failure: FailedBuild = { code, message }
    if (cause !== undefined) failure.detail = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
    leave({ type: 'failed', failure })
  }
}

function ask(question: Question): Promise<boolean> {
  const id = ++lastId
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject })
    tell({ type: 'ask', id, question })
  })
}

function answer(message: Extract<ToWorker, { type: 'answer' }>) {
  const asked = waiting.get(message.id)
  waiting.delete(message.id)
  if (message.failure) asked?.reject(new BuildError(message.failure.code, message.failure.message))
  else asked?.resolve(message.value ?? true)
}

function tell(message: FromWorker) {
  process.send?.(message)
}

/** The last word must be on its way before the process is gone. */
function leave(message: FromWorker) {
  process.send?.(message, () => process.exit(0))
}

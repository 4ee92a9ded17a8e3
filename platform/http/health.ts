// What /health, /health/ready and /health/detailed say: one list of dependencies, asked when someone looks.

import { type Clock, rfc3339 } from '../time.ts'

export interface HealthCheck {
  /** `degraded`: works with less; `down`: this dependency does not work. */
  status: 'ok' | 'degraded' | 'down'
  detail?: string
  latencyMs?: number
  /** RFC 3339: when this status began. */
  since?: string
}

export interface HealthReport {
  /** Worst of all dependencies, `draining` while stopping. A dependency that is `down` degrades the whole unless it is required. */
  status: 'ok' | 'degraded' | 'down' | 'draining'
  dependencies: Record<string, HealthCheck>
}

export interface Health {
  /** `required`: the service is not ready, and down, without it. Checks cost no money, write nothing, and get 2 s. */
  add(name: string, check: () => HealthCheck | Promise<HealthCheck>, o?: { required?: boolean }): void
  /** From here on not ready; called first when stopping. */
  draining(): void
  report(): Promise<HealthReport>
  isReady(): Promise<boolean>
}

const checkTimeoutMs = 2_000

export function createHealth({ clock }: { clock: Clock }): Health {
  const checks = new Map<string, { check: () => HealthCheck | Promise<HealthCheck>; required: boolean }>()
  const last = new Map<string, { status: HealthCheck['status']; since: string }>()
  let isDraining = false

  const run = async (name: string, check: () => HealthCheck | Promise<HealthCheck>): Promise<HealthCheck> => {
    const startedMs = clock.monotonicMs()
    const answer = await withTimeout(check).catch(
      (error: unknown): HealthCheck => ({
        status: 'down',
        detail: error instanceof Error ? error.message : String(error),
      }),
    )
    const latencyMs = answer.latencyMs ?? Math.round((clock.monotonicMs() - startedMs) * 10) / 10
    const before = last.get(name)
    const since = before?.status === answer.status ? before.since : rfc3339(clock.now())
    last.set(name, { status: answer.status, since })
    return { since, ...answer, latencyMs }
  }

  const report = async (): Promise<HealthReport> => {
    const entries = await Promise.all(
      [...checks].map(async ([name, { check, required }]) => ({ name, required, answer: await run(name, check) })),
    )
    const isDown = entries.some(e => e.required && e.answer.status === 'down')
    const isDegraded = entries.some(e => e.answer.status !== 'ok')
    return {
      status: isDraining ? 'draining' : isDown ? 'down' : isDegraded ? 'degraded' : 'ok',
      dependencies: Object.fromEntries(entries.map(e => [e.name, e.answer])),
    }
  }

  return {
    add: (name, check, o) => void checks.set(name, { check, required: o?.required ?? false }),
    draining() {
      isDraining = true
    },
    report,
    isReady: async () => ['ok', 'degraded'].includes((await report()).status),
  }
}

async function withTimeout(check: () => HealthCheck | Promise<HealthCheck>): Promise<HealthCheck> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<HealthCheck>(resolve => {
    timer = setTimeout(
      () => resolve({ status: 'down', detail: `no answer within ${checkTimeoutMs} ms` }),
      checkTimeoutMs,
    )
  })
  try {
    return await Promise.race([check(), late])
  } finally {
    clearTimeout(timer)
  }
}

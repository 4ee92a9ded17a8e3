// Every service's configuration is read here first, so that one run shows all problems of all services.

import { type ConfigSpec, loadConfig, type Problem } from '#platform/config'
import type { PlannedService, ServiceName } from './plan.ts'

/** Only the schema files: checking must not load five services into the supervisor. */
const specs: Partial<Record<ServiceName, () => Promise<{ spec: unknown }>>> = {
  'log-ingestion': () => import('../services/log-ingestion/config.ts'),
  billaged: () => import('../services/billaged/config.ts'),
  budgetguard: () => import('../services/budgetguard/config.ts'),
  builderd: () => import('../services/builderd/config.ts'),
}

export async function checkServiceConfigs(
  services: readonly PlannedService[],
): Promise<{ service: string; problems: Problem[] }[]> {
  const answers = await Promise.all(
    services.map(async ({ name, env }) => {
      const load = specs[name]
      if (!load) return { service: name, problems: [] }
      const { spec } = await load()
      const loaded = loadConfig(spec as ConfigSpec, { env: { ...env, PURSER_SECRET_FILE: undefined } })
      return { service: name, problems: loaded.ok ? [] : loaded.problems }
    }),
  )
  return answers.filter(({ problems }) => problems.length > 0)
}

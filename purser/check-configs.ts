// Every service's configuration is read here first, so that one run shows all problems of all services.

import { existsSync, readFileSync } from 'node:fs'
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
      if (name === 'metrics-collector') return { service: name, problems: await checkCollector(env) }
      const load = specs[name]
      if (!load) throw new Error(`BUG: no configuration schema of ${name}`)
      const { spec } = await load()
      const loaded = loadConfig(spec as ConfigSpec, { env: { ...env, PURSER_SECRET_FILE: undefined } })
      return { service: name, problems: loaded.ok ? [] : loaded.problems }
    }),
  )
  return answers.filter(({ problems }) => problems.length > 0)
}

/** The collector reads a YAML file and has a loader of its own. */
async function checkCollector(env: Readonly<Record<string, string>>): Promise<Problem[]> {
  const { loadConfig: loadCollectorConfig } = await import('../services/metrics-collector/config.ts')
  const path = env.METRICS_COLLECTOR_CONFIG
  // Written at the first start.
  if (path !== undefined && !existsSync(path)) return []
  const text = path === undefined ? undefined : readFileSync(path, 'utf8')
  const loaded = loadCollectorConfig({
    env,
    ...(path === undefined || text === undefined ? {} : { file: { path, text } }),
  })
  return loaded.ok ? [] : loaded.problems
}

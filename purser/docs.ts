// The reference pages that are printed from schemas: `npm run generate` writes them, a test compares them.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ConfigSpec, configReference, sharedReference } from '#platform/config'
import { spec as billaged } from '../services/billaged/config.ts'
import { spec as budgetguard } from '../services/budgetguard/config.ts'
import { spec as builderd } from '../services/builderd/config.ts'
import { spec as logIngestion } from '../services/log-ingestion/config.ts'
import { configReference as collectorReference } from '../services/metrics-collector/config.ts'
import { spec as supervisor } from './config.ts'
import { fetchExpositions, metricsPage } from './metrics-page.ts'
import { readRunFile } from './run-file.ts'

const head = `# Environment

Every variable, printed from the schemas that read it (\`npm run generate\`). Where a cell lists several names the first
one set wins. Durations are Go style (\`5s\`, \`1h30m\`), sizes take \`KiB MiB GiB\` and \`kB MB GB\`; a secret may be given as
\`NAME_FILE\`. An unknown name under one of our prefixes refuses the start and suggests the nearest known one.
`

export async function docFiles(): Promise<{ path: string; content: string }[]> {
  const section = (title: string, table: string) => `## ${title}\n\n${table}\n`
  const of = (spec: unknown) => configReference(spec as ConfigSpec)
  const environment = [
    head,
    section('Shared by all', sharedReference()),
    section('purser up', of(supervisor)),
    section('log-ingestion', of(logIngestion)),
    section('billaged', of(billaged)),
    section('budgetguard', of(budgetguard)),
    section('builderd', of(builderd)),
    section('metrics-collector', collectorReference()),
  ].join('\n')
  return [{ path: 'docs/environment.md', content: environment }]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL('..', import.meta.url))
  if (process.argv.includes('--metrics')) {
    const run = readRunFile(process.env.PURSER_DATA_DIR ?? '.purser')
    if (!run) throw new Error('start the platform first: npm start')
    writeFileSync(join(root, 'docs/metrics.md'), metricsPage(await fetchExpositions(run.services)))
  } else for (const { path, content } of await docFiles()) writeFileSync(join(root, path), content)
}

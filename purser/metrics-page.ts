// docs/metrics.md, printed from what running services expose.

import type { ServiceName } from './plan.ts'

export interface Family {
  name: string
  type: string
  help: string
}

/** The families of one exposition text, in order of name. */
export function familiesOf(exposition: string): Family[] {
  const types = new Map(
    [...exposition.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  )
  const help = new Map(
    [...exposition.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name = '', text = '']) => [name, text]),
  )
  return [...types]
    .map(([name, type]) => ({ name, type, help: help.get(name) ?? '' }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** What the runtime's library adds to every process; named once for all. */
const isCommon = ({ name }: Family) => /^(process|nodejs)_/.test(name)

const head = `# Metrics

Every family each service exposes at \`/metrics\` on its API port (and on its metrics port, where it has one), printed from
the running platform (\`npx purser up\`, then \`npm run generate:metrics\`). Label values are bounded by construction: routes
are patterns, no key, user or file name is ever a label. Every service also has the \`process_*\` and \`nodejs_*\` families of
its runtime, among them \`nodejs_eventloop_lag_seconds\`.
`

export function metricsPage(services: readonly { name: ServiceName; exposition: string }[]): string {
  const cell = (text: string) => text.replaceAll('|', '\\|')
  const sections = services.map(({ name, exposition }) => {
    // What a collector reads from its host differs by machine; its README names those series.
    const own = familiesOf(exposition).filter(family => !isCommon(family) && !/^node_/.test(family.name))
    const rows = own.map(family => `| \`${family.name}\` | ${family.type} | ${cell(family.help)} |`)
    return [`## ${name}`, '', '| name | type | meaning |', '|---|---|---|', ...rows, ''].join('\n')
  })
  return [head, ...sections].join('\n')
}

export async function fetchExpositions(
  services: readonly { name: ServiceName; url: string }[],
): Promise<{ name: ServiceName; exposition: string }[]> {
  return Promise.all(
    services.map(async ({ name, url }) => {
      const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(10_000) })
      if (!response.ok) throw new Error(`${name} ${url}/metrics answered ${response.status}`)
      return { name, exposition: await response.text() }
    }),
  )
}

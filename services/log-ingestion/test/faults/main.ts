// npm run test:log-ingestion:faults -- [--runs N] [--seed S] [--sink rows|columnar] [--only RUN]
//
// Seeded runs of the real service under load: killed, cut off, silenced, with a full disk, with entries that no database
// takes. After each: accepted = stored + quarantined + duplicates, every acknowledged entry once and unchanged. Exit code 1
// with the seed when a single row is off.

import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { type Outcome, runScenario, startServer } from './run.ts'
import { faultKinds, scenarioOf } from './scenario.ts'

const { values: args } = parseArgs({
  options: {
    runs: { type: 'string', default: '36' },
    seed: { type: 'string', default: String(randomInt(1_000_000)) },
    sink: { type: 'string' },
    only: { type: 'string' },
  },
})
const seed = whole('seed', args.seed)
const sink = args.sink === 'rows' || args.sink === 'columnar' ? args.sink : undefined
if (args.sink !== undefined && sink === undefined) throw new Error(`--sink ${args.sink}: give rows or columnar`)
const runs =
  args.only === undefined ? Array.from({ length: whole('runs', args.runs) }, (_, i) => i) : [whole('only', args.only)]

const columns: [heading: string, width: number][] = [
  ['run', 4],
  ['sink', 9],
  ['rows ack.', 10],
  ['accepted', 9],
  ['stored', 8],
  ['quarant.', 9],
  ['duplic.', 8],
  ['lost', 5],
  ['doubled', 8],
  ['changed', 8],
  ['diff.', 6],
  ['lives', 6],
  ['429s', 6],
  ['s', 6],
]
const line = (cells: readonly (string | number)[], note: string) =>
  console.log(`${cells.map((cell, i) => String(cell).padStart(columns[i]?.[1] ?? 0)).join('')}  ${note}`)

console.log(`seed ${seed}`)
line(
  columns.map(([heading]) => heading),
  'what happened',
)
const server = await startServer()
const outcomes: Outcome[] = []
let failed = 0
try {
  for (const run of runs) {
    const scenario = scenarioOf(seed, run, { sink })
    const replay = `npm run test:log-ingestion:faults -- --seed ${seed} --only ${run}${sink ? ` --sink ${sink}` : ''}`
    try {
      const outcome = await runScenario(server, scenario)
      outcomes.push(outcome)
      show(outcome)
      if (outcome.problems.length === 0) continue
      for (const problem of outcome.problems) console.log(`      ${problem}`)
    } catch (error) {
      const planned = scenario.faults.map(({ kind }) => kind).join(', ')
      console.log(`${String(run).padStart(4)}  failed (${planned}): ${error instanceof Error ? error.stack : error}`)
      if (error instanceof Error && error.cause) console.log(`      ${String(error.cause)}`)
    }
    failed++
    console.log(`      again: ${replay}`)
  }
} finally {
  await server.close()
}
summary()
process.exitCode = failed === 0 ? 0 : 1

function show(o: Outcome): void {
  const replicas = o.scenario.replicas === 1 ? '' : `${o.scenario.replicas} replicas; `
  line(
    [
      o.scenario.run,
      o.scenario.sink,
      o.acknowledged,
      o.accepted,
      o.stored,
      o.quarantined,
      o.duplicates,
      o.lost,
      o.doubled,
      o.changed,
      o.difference,
      o.lives,
      o.refusals,
      o.seconds.toFixed(1),
    ],
    `${replicas}${o.happened.join(', ') || 'nothing'}${o.skipped.map(reason => `; SKIPPED: ${reason}`).join('')}`,
  )
}

function summary(): void {
  const sum = (pick: (o: Outcome) => number) => outcomes.reduce((total, o) => total + pick(o), 0)
  const happened = faultKinds
    .map(kind => `${kind} ${sum(o => o.happened.filter(name => name === kind).length)}`)
    .join(', ')
  const skipped = sum(o => o.skipped.length)
  console.log(
    `\n${runs.length} ${runs.length === 1 ? 'run' : 'runs'}, seed ${seed}: acknowledged ${sum(o => o.acknowledged)}  stored ${sum(o => o.stored)}  ` +
      `quarantined ${sum(o => o.quarantined)}  duplicates ${sum(o => o.duplicates)}  ` +
      `lost ${sum(o => o.lost)}  doubled ${sum(o => o.doubled)}  changed ${sum(o => o.changed)}  failed runs ${failed}`,
  )
  console.log(`happened: ${happened}${skipped > 0 ? `; NOT TRIED HERE: ${skipped} full disks` : ''}`)
}

function whole(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`--${name} must be a whole number, not ${text}`)
  return Number(text)
}

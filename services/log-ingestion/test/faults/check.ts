// After a run: every acknowledged entry once and unchanged, every row accounted for, by three ways of counting.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Sql } from '#platform/postgres'
import type { LedgerAnswer } from '../../api.ts'
import { adminKeys, type Expected, hugeNumber, type Sent } from './load.ts'
import { type Replica, secret } from './run.ts'
import type { Scenario } from './scenario.ts'

export interface Books {
  /** Rows of acknowledged requests. */
  acknowledged: number
  /** Of the ledger. */
  accepted: number
  stored: number
  quarantined: number
  duplicates: number
  lost: number
  doubled: number
  changed: number
  /** As `purser logs doctor reconcile` says. */
  difference: string
  /** Sentences; empty when all is as promised. */
  problems: string[]
}

interface Found {
  id: bigint
  service: string
  level: string
  message: string
  timestamp: string
  metadata: string
  createdAt: string
}

interface Run {
  sql: Sql
  scenario: Scenario
  sent: readonly Sent[]
  replicas: readonly [Replica, ...Replica[]]
}

export async function checkBooks(run: Run): Promise<Books> {
  const { sql, scenario, sent } = run
  const problems: string[] = []
  const say = (problem: string) => void (problems.length < 20 && problems.push(problem))

  // Entry by entry.
  const stored = await readAll(run)
  const refused = await readQuarantine(sql)
  let lost = 0
  let doubled = 0
  let changed = 0
  const known = new Set<number>()
  for (const request of sent)
    for (const entry of request.entries) {
      known.add(entry.number)
      const copies = stored.get(entry.tenant)?.get(entry.number) ?? []
      const count = copies.length + (refused.get(entry.number) ?? 0)
      if (count === 0 && request.answer) {
        lost++
        say(`lost: entry ${entry.number} of an acknowledged ${request.delivery} ${request.path}`)
      }
      if (count > 1) {
        doubled++
        say(`${count} times: entry ${entry.number} of a ${request.delivery} ${request.path}`)
      }
      if (entry.isPoison && copies.length > 0) say(`stored although the database refuses it: entry ${entry.number}`)
      if (!entry.isPoison && refused.has(entry.number)) say(`in quarantine for no reason: entry ${entry.number}`)
      for (const copy of copies) {
        const difference = differenceOf(entry, copy, scenario.sink)
        if (difference === undefined) continue
        changed++
        say(`changed: entry ${entry.number} of ${request.path}: ${difference}`)
      }
    }
  let storedCount = 0
  for (const entries of stored.values())
    for (const [number, copies] of entries) {
      storedCount += copies.length
      if (!known.has(number)) say(`nobody sent this: ${copies[0]?.message}`)
    }
  problems.push(...(await orderProblems(sql, sent, stored)))

  // The counts.
  const [ledger] = await sql<
    Record<'accepted' | 'stored' | 'quarantined' | 'duplicates' | 'damaged' | 'deleted' | 'expired', bigint>[]
  >`select ${sql.unsafe(
    ['accepted', 'stored', 'quarantined', 'duplicates', 'damaged', 'deleted', 'expired']
      .map(name => `coalesce(sum(${name}), 0)::int8 as ${name}`)
      .join(', '),
  )} from purser_logs.ledger`
  const [counted] = await sql<Record<'rows' | 'blocks' | 'quarantine' | 'ranges' | 'totals' | 'usage', bigint>[]>`
    select (select count(*) from public.logs) as rows,
           (select coalesce(sum(rows), 0)::int8 from purser_logs.blocks) as blocks,
           (select count(*) from purser_logs.quarantine) as quarantine,
           (select coalesce(sum(rows), 0)::int8 from purser_logs.commits) as ranges,
           (select coalesce(sum(rows), 0)::int8 from purser_logs.totals) as totals,
           (select coalesce(sum(rows), 0)::int8 from purser_logs.usage_hours) as usage`
  if (!ledger || !counted) throw new Error('BUG: sums of nothing')
  const equal = (what: string, a: bigint, b: bigint) => {
    if (a !== b) problems.push(`${what}: ${a} is not ${b}`)
  }
  const present = counted.rows + counted.blocks
  equal(
    'ledger: accepted, and stored + quarantined + duplicates',
    ledger.accepted,
    ledger.stored + ledger.quarantined + ledger.duplicates,
  )
  equal('ledger: damaged, and none', ledger.damaged, 0n)
  equal('stored in the ledger, and rows counted', ledger.stored, present)
  equal('rows counted, and rows read through the API', present, BigInt(storedCount))
  equal('quarantined in the ledger, and rows of the quarantine', ledger.quarantined, counted.quarantine)
  equal('accepted in the ledger, and rows of the stored ranges', ledger.accepted, counted.ranges)
  equal('rows counted, and totals', present, counted.totals)
  equal('rows counted, and usage', present, counted.usage)
  const least = sent.reduce((sum, { answer, entries }) => sum + (answer ? entries.length : 0), 0)
  if (ledger.accepted < BigInt(least)) problems.push(`${least} rows acknowledged, ${ledger.accepted} accepted`)

  if (scenario.sink === 'columnar') problems.push(...(await brokenEvidence(run, present)))

  // What an operator would be told, by each replica.
  let difference = '0'
  for (const replica of run.replicas) {
    const told = await doctor(replica)
    if (told.difference !== '0') difference = told.difference
    if (told.difference !== '0' || told.totals.pending !== '0' || told.totals.present !== String(present))
      problems.push(`doctor reconcile: ${JSON.stringify(told.totals)}, difference ${told.difference}`)
  }
  return {
    acknowledged: least,
    accepted: Number(ledger.accepted),
    stored: Number(ledger.stored),
    quarantined: Number(ledger.quarantined),
    duplicates: Number(ledger.duplicates),
    lost,
    doubled,
    changed,
    difference,
    problems,
  }
}

/** All entries by tenant and number, as a customer exports them. */
async function readAll({ replicas }: Run): Promise<Map<string, Map<number, Found[]>>> {
  const all = new Map<string, Map<number, Found[]>>()
  for (const [tenant, key] of Object.entries(adminKeys)) {
    const response = await fetch(`${replicas[0].url}/api/v1/logs/export?from=-2h&to=now%2B1h&order=asc`, {
      headers: { 'x-api-key': key },
    })
    const lines = (await response.text()).split('\n').filter(line => line !== '')
    if (response.status !== 200) throw new Error(`export was answered ${response.status}: ${lines[0]}`)
    const entries = new Map<number, Found[]>()
    for (const line of lines) {
      const { id, service, level, message, timestamp, created_at } = JSON.parse(line) as Record<string, string>
      const number = numberOf(message ?? '')
      const copies = entries.get(number) ?? []
      copies.push({
        id: BigInt(id ?? ''),
        service: service ?? '',
        level: level ?? '',
        message: message ?? '',
        timestamp: timestamp ?? '',
        metadata: /"metadata":(.*),"created_at"/s.exec(line)?.[1] ?? '',
        createdAt: created_at ?? '',
      })
      entries.set(number, copies)
    }
    all.set(tenant, entries)
  }
  return all
}

/** Hashes, chains and signatures of the blocks, recomputed; merging went on while the process was killed. */
async function brokenEvidence({ replicas }: Run, present: bigint): Promise<string[]> {
  const problems: string[] = []
  let rows = 0n
  for (const key of Object.values(adminKeys)) {
    const response = await fetch(`${replicas[0].url}/api/v1/chain/verify`, { headers: { 'x-api-key': key } })
    const text = await response.text()
    if (response.status !== 200) throw new Error(`verify was answered ${response.status}: ${text}`)
    for (const line of text.split('\n').filter(each => each !== '')) {
      const day = JSON.parse(line) as { day: string; rows: string; broken: { at: string; problem: string } | null }
      rows += BigInt(day.rows)
      if (day.broken) problems.push(`evidence of ${day.day} does not hold: ${day.broken.at} ${day.broken.problem}`)
    }
  }
  if (rows !== present) problems.push(`evidence covers ${rows} rows of ${present}`)
  return problems
}

async function readQuarantine(sql: Sql): Promise<Map<number, number>> {
  const rows = await sql<{ message: string }[]>`
    select convert_from(entry, 'utf8')::jsonb->>'message' as message from purser_logs.quarantine`
  const counts = new Map<number, number>()
  for (const { message } of rows) counts.set(numberOf(message), (counts.get(numberOf(message)) ?? 0) + 1)
  return counts
}

function numberOf(message: string): number {
  return Number(/^#(\d+) /.exec(message)?.[1] ?? Number.NaN)
}

/** What is different, for people; undefined when nothing is. */
function differenceOf(sent: Expected, found: Found, sink: Scenario['sink']): string | undefined {
  const unit = sink === 'rows' ? 1_000n : 1n
  const wantedNs = (sent.timestampNs / unit) * unit
  const wanted = [sent.service, sent.level, sent.message, wantedNs]
  const is = [found.service, found.level, found.message, nanosOf(found.timestamp)]
  for (const [i, value] of wanted.entries()) if (value !== is[i]) return `${String(is[i])} instead of ${String(value)}`
  // Its digits must be there as they were; as a number of JavaScript they would not be.
  const metadata: unknown = JSON.parse(found.metadata.replaceAll(hugeNumber, '"HUGE"'))
  const canonical = (value: unknown) =>
    JSON.stringify(value, (_, inner: unknown) =>
      typeof inner === 'object' && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
        : inner,
    )
  if (canonical(metadata) === canonical(sent.metadata)) return undefined
  return `metadata ${found.metadata} instead of ${canonical(sent.metadata)}`
}

function nanosOf(timestamp: string): bigint {
  const [, seconds = '', fraction = ''] = /^(.*?)(?:\.(\d+))?Z$/.exec(timestamp) ?? []
  return BigInt(Date.parse(`${seconds}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, '0'))
}

/** Ids ascend in the order of acceptance per replica, and within a request; receipts say where each was accepted. */
async function orderProblems(
  sql: Sql,
  sent: readonly Sent[],
  stored: ReadonlyMap<string, ReadonlyMap<number, readonly Found[]>>,
): Promise<string[]> {
  const segments = await sql<{ segment: string; replica: string }[]>`
    select distinct segment, replica from purser_logs.commits`
  const replicaOf = new Map(segments.map(({ segment, replica }) => [segment, replica]))
  const accepted = sent.flatMap(request => {
    // Of a race nobody knows from outside which of the two was stored.
    if (!request.answer || request.isRaced) return []
    const { segment, from, receivedUs } = placeOf(request.answer.receipt)
    return [{ request, segment, from, receivedUs, replica: replicaOf.get(segment) ?? '' }]
  })
  accepted.sort((a, b) => {
    const [x, y] = [`${a.replica}${a.segment}`, `${b.replica}${b.segment}`]
    return x === y ? a.from - b.from : x < y ? -1 : 1
  })
  const problems: string[] = []
  let before: { replica: string; id: bigint; number: number } | undefined
  for (const { request, replica, receivedUs } of accepted)
    for (const { number, tenant } of request.entries) {
      const [found] = stored.get(tenant)?.get(number) ?? []
      if (!found) continue
      // With two replicas a marked request may be stored as the other one accepted it.
      const isThisOne = nanosOf(found.createdAt) / 1_000n === receivedUs
      if (!isThisOne && request.delivery !== 'marked') problems.push(`entry ${number} was not created when accepted`)
      if (!isThisOne) continue
      if (before?.replica === replica && before.id >= found.id)
        problems.push(`entry ${number} has id ${found.id}, entry ${before.number} before it ${before.id}`)
      before = { replica, id: found.id, number }
    }
  return problems.slice(0, 5)
}

/** A receipt names its place in the journal; see receipt.ts. */
function placeOf(receipt: string): { segment: string; from: number; receivedUs: bigint } {
  const bytes = Buffer.from(receipt.slice('rcp_'.length), 'base64url')
  const hex = bytes.toString('hex', 1, 17)
  return {
    segment: [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-'),
    from: bytes.readUIntLE(17, 6),
    receivedUs: bytes.readBigUInt64LE(33),
  }
}

/** `purser logs doctor reconcile`, as a person runs it, for all tenants. */
async function doctor(replica: Replica): Promise<LedgerAnswer> {
  const purser = fileURLToPath(new URL('../../../../bin/purser', import.meta.url))
  const child = spawn(purser, ['logs', 'doctor', 'reconcile', '--since', '1h', '--json'], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PURSER_LOGS_URL: replica.url,
      PURSER_SECRET: secret,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', text => (out += text))
  child.stderr.setEncoding('utf8').on('data', text => (err += text))
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  if (!out.startsWith('{')) throw new Error(`purser logs doctor reconcile ended with ${code}: ${err}`)
  const told = JSON.parse(out) as LedgerAnswer
  if ((code === 0) !== (told.difference === '0')) throw new Error(`difference ${told.difference}, exit code ${code}`)
  return told
}

// `purser logs doctor reconcile`: what was accepted, what became of it, and what is really there. Three counts that come
// from different places; their difference must be 0. What /health complains of is told beside them.

import { parseDuration } from '#platform/time'
import type { LedgerAnswer } from '../../services/log-ingestion/api.ts'
import { openTerminal } from '../terminal.ts'
import { clientFlags, openClient, type ServiceClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, Misuse } from './main.ts'

const hourMs = 3_600_000

/** Exit code 1 when the counts differ. */
export async function doctor(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, { ...clientFlags, since: { type: 'string' }, json: { type: 'boolean' } })
  if (words.length > 1 || (words[0] ?? 'reconcile') !== 'reconcile')
    throw new Misuse(`what is "${words.join(' ')}"? Try: purser logs doctor reconcile --since 24h`)
  const client = await openClient(env, values)
  const query = new URLSearchParams({ present: 'true' })
  const sinceMs = values.since === undefined ? undefined : Date.now() - durationOf(values.since)
  if (sinceMs !== undefined) query.set('from', new Date(sinceMs).toISOString())
  if (values.tenant !== undefined) query.set('tenant', values.tenant)
  const ledger = await client.call<LedgerAnswer>('GET', `/api/v1/ledger?${query}`)
  const isEven = ledger.difference === '0'
  if (values.json) process.stdout.write(`${JSON.stringify(ledger, null, 2)}\n`)
  else {
    printLedger(ledger, isEven)
    if (sinceMs !== undefined && Date.parse(ledger.from) < sinceMs - hourMs)
      process.stderr.write(
        `counted from ${ledger.from}: entries in blocks, and those that were deleted or expired, are not told apart by hour\n`,
      )
    for (const complaint of await complaintsOf(client)) process.stderr.write(`${complaint}\n`)
  }
  return isEven ? 0 : 1
}

/** What the service itself says is not as it should be, though rows may add up. */
async function complaintsOf(client: ServiceClient): Promise<string[]> {
  const health = await client.call<{ checks?: Record<string, { detail?: string }>; notices?: string[] }>(
    'GET',
    '/health',
  )
  const checks = Object.entries(health.checks ?? {}).map(([name, { detail }]) => `${name}: ${detail ?? 'degraded'}`)
  return [...checks, ...(health.notices ?? [])]
}

function printLedger({ totals, difference, quarantine_reasons: reasons }: LedgerAnswer, isEven: boolean): void {
  const t = openTerminal()
  const line = (name: string, count: string, note = '') =>
    t.print(`${name.padEnd(20)}${grouped(count).padStart(18)}${note === '' ? '' : `     ${note}`}`)
  line('source', 'rows')
  line('journal (accepted)', totals.accepted)
  const went = `present ${grouped(totals.present ?? '?')}   deleted ${grouped(totals.deleted)}   expired ${grouped(totals.expired)}`
  line('  stored', totals.stored, went)
  const see = 'see: purser logs quarantine list'
  line(
    '  quarantined',
    totals.quarantined,
    totals.quarantined === '0' ? '' : `${reasons} ${reasons === 1 ? 'reason' : 'reasons'}, ${see}`,
  )
  line('  duplicates', totals.duplicates, totals.duplicates === '0' ? '' : 'resends suppressed')
  line('  pending', totals.pending, totals.pending === '0' ? '' : 'on disk, on their way')
  line('  damaged', totals.damaged, totals.damaged === '0' ? '' : 'what is left of them is in journal/damaged/')
  line('difference', difference, isEven ? t.green('ok') : t.red('rows are missing or too many'))
}

/** 12479806 as 12 479 806. */
function grouped(count: string): string {
  return /^-?\d+$/.test(count) ? count.replace(/\B(?=(\d{3})+$)/g, ' ') : count
}

function durationOf(text: string): number {
  try {
    return parseDuration(text)
  } catch (error) {
    throw new Misuse(`--since ${text}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

import { readFileSync } from 'node:fs'
import { formatUsd, parseUsd } from '#platform/money'
import type { Reconciliation } from '../api.ts'
import { UsageError } from './client.ts'
import { command, exitBlocked, exitOk, required } from './command.ts'
import { table } from './format.ts'
import { readCsv } from './read-csv.ts'

const rowsPerCall = 2_000
/** As many customers and months as one call takes; a file may have any number. */
const periodsPerCall = 500

/** Other billers' figures beside ours, from a plain CSV or one in FOCUS. */
export const reconcile = command({
  summary: 'compare with another biller, line by line',
  usage:
    'reconcile FILE.csv [--tolerance AMOUNT] [--all] [--json]   (columns customer, period, item, quantity, amount; or FOCUS)',
  options: ['tolerance'],
  switches: ['all'],
  async run({ words, flags, isOn, client, print }) {
    const path = required(words[0], 'the file of the other biller')
    const theirs = readOther(readFileSync(path, 'utf8'), path)
    const toleranceNano = flags.tolerance === undefined ? '0' : `${parseUsd(flags.tolerance)}`
    const result: Reconciliation = { rows: [], equal: 0, different: 0 }
    for (const rows of inCalls(theirs)) {
      const part = await client.post<Reconciliation>('/v1/reconcile', { toleranceNano, rows })
      result.rows.push(...part.rows)
      result.equal += part.equal
      result.different += part.different
    }
    const shown = result.rows.filter(row => isOn('all') || row.verdict !== 'equal')
    const amount = (nano: string | null) => (nano === null ? '–' : formatUsd(BigInt(nano)))
    print(result, [
      `${result.rows.length} item${result.rows.length === 1 ? '' : 's'} compared: ${result.equal} equal, ${result.different} different`,
      ...(shown.length === 0
        ? []
        : table([
            ['  customer', 'period', 'item', 'theirs', 'ours', 'ours − theirs'],
            ...shown.map(row => [
              `  ${row.customerId}`,
              row.isDraft ? `${row.period} (draft)` : row.period,
              row.theirQuantity === row.ourQuantity || row.theirQuantity === null || row.ourQuantity === null
                ? row.item
                : `${row.item} (${row.theirQuantity} against ${row.ourQuantity})`,
              amount(row.theirNano),
              amount(row.ourNano),
              amount(row.differenceNano),
            ]),
          ])),
    ])
    return result.different > 0 ? exitBlocked : exitOk
  },
})

interface Other {
  customerId: string
  period: string
  item: string | null
  quantity: string | null
  amount: string
}

/** Rows of one customer and month stay in one call: what only we have is looked for there. */
function inCalls(rows: readonly Other[]): Other[][] {
  const calls: { rows: Other[]; periods: number }[] = []
  for (const group of Map.groupBy(rows, row => JSON.stringify([row.customerId, row.period])).values()) {
    const last = calls.at(-1)
    if (last === undefined || last.rows.length + group.length > rowsPerCall || last.periods >= periodsPerCall)
      calls.push({ rows: [...group], periods: 1 })
    else {
      last.rows.push(...group)
      last.periods++
    }
  }
  return calls.map(call => call.rows)
}

export function readOther(text: string, path: string): Other[] {
  const [head = [], ...rows] = readCsv(text)
  const names = head.map(name => name.trim().toLowerCase())
  const isFocus = names.includes('billedcost')
  const columns = isFocus
    ? {
        customerId: 'billingaccountid',
        period: 'billingperiodstart',
        item: 'servicename',
        quantity: 'consumedquantity',
        amount: 'billedcost',
      }
    : { customerId: 'customer', period: 'period', item: 'item', quantity: 'quantity', amount: 'amount' }
  for (const name of [columns.customerId, columns.period, columns.amount])
    if (!names.includes(name))
      throw new UsageError(`${path} has no column ${name}; it needs customer, period and amount, or those of FOCUS`)
  const cell = (row: readonly string[], name: string) => {
    const at = names.indexOf(name)
    // A cell that was marked as text for spreadsheets.
    const value = (at === -1 ? '' : (row[at] ?? '')).replace(/^'(?=\s*[=+\-@])/, '')
    return value === '' ? null : value
  }
  return rows.map((row, i) => ({
    customerId: mustHave(cell(row, columns.customerId), columns.customerId, path, i),
    period: mustHave(cell(row, columns.period), columns.period, path, i).slice(0, 7),
    item: cell(row, columns.item),
    quantity: cell(row, columns.quantity),
    amount: mustHave(cell(row, columns.amount), columns.amount, path, i),
  }))
}

function mustHave(value: string | null, column: string, path: string, row: number): string {
  if (value === null) throw new UsageError(`${path}, row ${row + 2}: ${column} is empty`)
  return value
}

import { readFileSync } from 'node:fs'
import { checkReceipt, type ReadingOfVm, type Receipt } from '../invoices/receipt.ts'
import { type Flags, UsageError } from './args.ts'

/** Checks a receipt with nothing but files: no service, no network. Exit 3 when it does not hold. */
export function verifyReceipt(flags: Flags, path: string | undefined): number {
  if (path === undefined) throw new UsageError('which receipt? billaged-cli verify receipt.json')
  const receipt = readReceipt(path)
  const problems = checkReceipt(receipt, {
    ...(flags.publicKey === '' ? {} : { publicKey: flags.publicKey }),
    ...(flags.previous === '' ? {} : { previous: readReceipt(flags.previous) }),
    ...(flags.evidence === '' ? {} : { evidence: readLines(flags.evidence) }),
    ...(flags.samples === '' ? {} : { samples: readLines(flags.samples).map(toReading) }),
  })
  const { invoice, seq } = receipt.receipt
  if (flags.json) process.stdout.write(`${JSON.stringify({ ok: problems.length === 0, problems }, null, 2)}\n`)
  else {
    const title = `${invoice.number} of ${invoice.customerId}, receipt #${seq}, ${invoice.currency} ${invoice.due}`
    process.stdout.write(`${problems.length === 0 ? 'holds' : 'DOES NOT HOLD'}: ${title}\n`)
    for (const problem of problems) process.stdout.write(`  ${problem}\n`)
    if (flags.publicKey === '')
      process.stderr.write('Signed by the key in the receipt itself; -public-key checks it against one you trust.\n')
  }
  return problems.length === 0 ? 0 : 3
}

function readReceipt(path: string): Receipt {
  const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
  if (!isReceipt(value)) throw new UsageError(`${path} is no receipt: GET /v1/invoices/<id>/receipt gives one`)
  return value
}

function isReceipt(value: unknown): value is Receipt {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['receipt', 'hash', 'signature', 'publicKey'].every(name => name in value)
  )
}

function readLines(path: string): string[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter(line => line !== '')
}

/** One reading a line, named as the RPC names its fields; integers as strings or numbers, the time in Unix ns. */
function toReading(line: string): ReadingOfVm {
  const row: Record<string, unknown> = JSON.parse(line, (_, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' ? (context?.source ?? String(value)) : value,
  )
  const integer = (name: string) => BigInt(String(row[name] ?? '0'))
  return {
    vmId: String(row.vmId),
    atNs: integer('timestamp'),
    cpuNs: integer('cpuTimeNanos'),
    memoryBytes: integer('memoryUsageBytes'),
    diskReadBytes: integer('diskReadBytes'),
    diskWriteBytes: integer('diskWriteBytes'),
    netRxBytes: integer('networkRxBytes'),
    netTxBytes: integer('networkTxBytes'),
  }
}

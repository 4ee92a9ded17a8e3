import { type Flags, UsageError } from '../args.ts'
import { callApi } from '../client.ts'
import { meters } from './scenario.ts'

// How the bill is read back: from billaged, from any biller with OpenMeter's query, or from one JSON answer per meter.

export interface BillQuestion {
  customerId: string
  from: string
  to: string
  /** What a biller that has taken in everything would say, in the order of `meters`: for knowing when to stop waiting. */
  expected: readonly bigint[]
}

export type ReadBill = (question: BillQuestion) => Promise<bigint[]>

/** Billers that cannot be told to wait are asked again until they say what is expected, or for so long. */
const settleMs = 20_000
const settleEveryMs = 250

export function createAdapter(flags: Flags): ReadBill {
  switch (flags.chaos.adapter) {
    case 'billaged':
      return question => readUsage(flags, question)
    case 'openmeter':
      return settling(meter => ({
        path: ({ customerId, from, to }) =>
          `/api/v1/meters/${meter}/query?${new URLSearchParams({ subject: customerId, from, to })}`,
        read: body => sumOfRows(body),
      }))
    case 'http': {
      const { billUrl, billPath } = flags.chaos
      if (!/\{meter\}/.test(billUrl))
        throw new UsageError('-adapter http needs -bill-url with {meter}, {customer}, {from}, {to}')
      const path = parsePath(billPath)
      return settling(meter => ({
        path: ({ customerId, from, to }) => {
          const values: Record<string, string> = { meter, customer: customerId, from, to }
          return billUrl.replace(/\{(\w+)\}/g, (whole, name: string) =>
            values[name] === undefined ? whole : encodeURIComponent(values[name]),
          )
        },
        read: body => integer(at(body, path), billPath),
      }))
    }
    default:
      throw new UsageError(`-adapter is ${flags.chaos.adapter}; it is billaged, openmeter or http`)
  }

  function settling(
    of: (meter: string) => { path(question: BillQuestion): string; read(body: unknown): bigint },
  ): ReadBill {
    return async question => {
      const deadline = performance.now() + settleMs
      for (;;) {
        const bill: bigint[] = []
        for (const meter of meters) {
          const { path, read } = of(meter)
          bill.push(read((await callApi(flags, 'GET', path(question))).body))
        }
        if (bill.every((amount, i) => amount === question.expected[i]) || performance.now() > deadline) return bill
        await new Promise(resolve => setTimeout(resolve, settleEveryMs))
      }
    }
  }
}

/** Asked of one replica, which waits for what any of them acknowledged. */
async function readUsage(flags: Flags, { customerId, from, to }: BillQuestion): Promise<bigint[]> {
  const path = `/v1/customers/${customerId}/usage?wait=30s&from=${from}&to=${to}`
  const { rows, complete } = (await callApi(flags, 'GET', path)).body as {
    rows: { meter: string; quantity: string }[]
    complete: boolean
  }
  if (!complete) throw new Error(`${customerId}: not everything acknowledged was folded within 30 s`)
  return meters.map(meter => BigInt(rows.find(row => row.meter === meter)?.quantity ?? '0'))
}

function sumOfRows(body: unknown): bigint {
  const { data } = body as { data: { value: number; valueExact?: string }[] }
  return data.reduce((sum, row) => sum + integer(row.valueExact ?? row.value, 'value'), 0n)
}

/** `$.a.b[0]['c d']`. */
export function parsePath(text: string): (string | number)[] {
  const step = /\.([A-Za-z_][\w-]*)|\[(\d{1,6})\]|\['([^']+)'\]/y
  const path: (string | number)[] = []
  step.lastIndex = 1
  while (text.startsWith('$') && step.lastIndex < text.length) {
    const [, name, index, quoted] = step.exec(text) ?? []
    const part = index === undefined ? (name ?? quoted) : Number(index)
    if (part === undefined) break
    path.push(part)
  }
  if (path.length === 0 || step.lastIndex !== text.length)
    throw new UsageError(`-bill-path is ${text}; write a path such as $.data[0].value`)
  return path
}

function at(body: unknown, path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (Object.hasOwn(Object(value), part) ? Object(value)[part] : undefined),
    body,
  )
}

/** Of a whole number, however it is written; nothing there is 0, as for a customer that a biller does not know yet. */
function integer(value: unknown, where: string): bigint {
  if (value === undefined || value === null) return 0n
  const text = typeof value === 'number' ? value.toLocaleString('en', { useGrouping: false }) : String(value)
  if (!/^-?\d+(\.0*)?$/.test(text)) throw new UsageError(`${where} is ${text}; chaos counts whole units`)
  return BigInt(text.replace(/\.0*$/, ''))
}

import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { readCsv } from '../commands/read-csv.ts'
import { readOther } from '../commands/reconcile.ts'
import { parseDecimal } from '../decimal.ts'
import { example } from './example.fixture.ts'
import { focusColumns, focusHeader, focusRows } from './focus.ts'
import { type OtherRow, reconcile } from './reconcile.ts'

const { receipt, attached } = example()
const { invoice } = receipt.receipt
const unitOf = () => 'ns'
const csv = () => focusHeader() + focusRows(invoice, { unitOf, prices: attached.prices })

test('golden: FOCUS rows of an invoice, each in the order of the columns', () => {
  const rows = readCsv(csv())
  assert.deepEqual(rows[0], [...focusColumns])
  const [usage, tax, rounding] = rows
    .slice(1)
    .map(row => Object.fromEntries(row.map((cell, i) => [rows[0]?.[i], cell])))
  assert.deepEqual(usage, {
    BilledCost: '12.345678901',
    BillingAccountId: 'acme',
    BillingAccountName: `'=HYPERLINK("x") <script>`,
    BillingCurrency: 'USD',
    BillingPeriodEnd: '2026-02-01T00:00:00Z',
    BillingPeriodStart: '2026-01-01T00:00:00Z',
    ChargeCategory: 'Usage',
    ChargeClass: '',
    ChargeDescription: 'CPU',
    ChargeFrequency: 'Usage-Based',
    ChargePeriodEnd: '2026-02-01T00:00:00Z',
    ChargePeriodStart: '2026-01-01T00:00:00Z',
    ConsumedQuantity: '444444440436000',
    ConsumedUnit: 'ns',
    ContractedCost: '12.345678901',
    ContractedUnitPrice: '0.1',
    EffectiveCost: '12.345678901',
    InvoiceId: 'INV-2026-000001',
    InvoiceIssuerName: 'Nordlicht Compute AB',
    ListCost: '12.345678901',
    ListUnitPrice: '0.1',
    PricingQuantity: '123.45678901',
    PricingUnit: 'core-hours',
    ProviderName: 'Nordlicht Compute AB',
    PublisherName: 'Nordlicht Compute AB',
    ResourceId: '',
    ServiceCategory: 'Compute',
    ServiceName: 'vm_cpu',
    SkuId: 'std/cpu',
    SkuPriceId: 'std/cpu/v1',
    SubAccountId: '',
    Tags: '',
    x_InvoiceLineId: 'li_5zkcjs5p689mbrtk7qbng8dyq',
    x_LineKind: 'usage',
    x_AdjustsLineId: '',
  })
  const brief = (row: Record<string, string> | undefined) => [
    row?.BilledCost,
    row?.ChargeCategory,
    row?.ChargeClass,
    row?.ChargeFrequency,
    row?.ServiceName,
    row?.PricingUnit,
  ]
  assert.deepEqual(brief(tax), ['2.345678991', 'Tax', '', 'One-Time', 'tax', ''])
  assert.deepEqual(brief(rounding), ['-0.001357892', 'Adjustment', '', 'One-Time', 'rounding', ''])
  const costs = rows.slice(1).map(row => parseDecimal(row[0] ?? '') ?? 0n)
  assert.equal(
    costs.reduce((sum, cost) => sum + cost, 0n),
    BigInt(invoice.dueMinor) * 10_000_000n,
  )
})

const own = () => ({ lines: invoice.lines, isDraft: false })

test('our own export reconciles with our own invoice to the nano-unit; any changed figure is named', () => {
  const theirs = (text: string): OtherRow[] =>
    readOther(text, 'other.csv').map(row => ({
      ...row,
      quantityE9: row.quantity === null ? null : parseDecimal(row.quantity),
      amountNano: parseDecimal(row.amount) ?? 0n,
    }))
  const same = reconcile(theirs(csv()), own, 0n)
  assert.deepEqual([same.equal, same.different], [3, 0])
  const changed = reconcile(theirs(csv().replace('12.345678901,acme', '12.345678902,acme')), own, 0n)
  assert.deepEqual(
    changed.rows.filter(({ verdict }) => verdict !== 'equal').map(row => [row.item, row.differenceNano, row.verdict]),
    [['vm_cpu', '-1', 'differs']],
  )
  const near = reconcile(theirs(csv().replace('12.345678901,acme', '12.345678902,acme')), own, 1n)
  assert.equal(near.different, 0)
  const plain = 'customer,period,amount\nacme,2026-01,14.69\nglobex,2026-01,1\n'
  assert.deepEqual(
    reconcile(theirs(plain), id => (id === 'acme' ? own() : null), 0n).rows.map(row => [
      row.customerId,
      row.item,
      row.ourNano,
      row.verdict,
    ]),
    [
      ['acme', 'total', '14690000000', 'equal'],
      ['globex', 'total', null, 'only_theirs'],
    ],
  )
  const partial = 'Customer,Period,Item,Quantity,Amount\nacme,2026-01,vm_cpu,444444440436001,12.345678901\n'
  assert.deepEqual(
    reconcile(theirs(partial), own, 0n).rows.map(row => [row.item, row.verdict]),
    [
      ['vm_cpu', 'differs'],
      ['tax', 'only_ours'],
      ['rounding', 'only_ours'],
    ],
  )
  assert.throws(() => readOther('a,b\n1,2\n', 'x.csv'), /x.csv has no column customer/)
  assert.throws(() => readOther('customer,period,amount\nacme,2026-01,\n', 'x.csv'), /x.csv, row 2: amount is empty/)
})

test('what is written as CSV reads back, whichever way its lines end', () => {
  const cells = fc.array(fc.string({ unit: 'binary' }), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(fc.array(cells, { maxLength: 6 }), fc.constantFrom('\r\n', '\n'), (rows, end) => {
      const quoted = rows.map(row => row.map(cell => `"${cell.replaceAll('"', '""')}"`).join() + end).join('')
      assert.deepEqual(
        readCsv(quoted),
        rows.filter(row => row.some(cell => cell !== '')),
      )
    }),
  )
  assert.deepEqual(readCsv('\ufeffa,b\n1,"x ""y"""\n\n2,'), [
    ['a', 'b'],
    ['1', 'x "y"'],
    ['2', ''],
  ])
  assert.throws(() => readCsv('a,"b"c\n'), /a quoted cell goes on/)
})

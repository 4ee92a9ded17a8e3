import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { e9 } from '../decimal.ts'
import { versionSchema } from '../rating/plan.ts'
import { ratePeriod } from '../rating/rate.ts'
import { emptyCell } from '../usage/cells.ts'
import { canonicalJson } from './canonical.ts'
import { draftInvoice } from './draft.ts'
import { eventLine, hourLine, parseHourLine, sampleSetDigest } from './evidence.ts'
import { leafHash, merkleRoot } from './merkle.ts'
import { checkReceipt, firstHash, priceJson, type Receipt, receiptBody, sealReceipt, signingKey } from './receipt.ts'
import { csvCell, html, render } from './render.ts'
import { invoiceView } from './view.ts'

const january = { from: 490_896, to: 491_640 }
const plan = { id: 'std', version: 1 }
const version = versionSchema.parse({
  effectiveFrom: '2020-01-01T00:00:00Z',
  prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' }],
})
const sample = (atNs: bigint, cpuNs: bigint) => ({
  atNs,
  cpuNs,
  memoryBytes: 0n,
  diskReadBytes: 0n,
  diskWriteBytes: 0n,
  netRxBytes: 0n,
  netTxBytes: 0n,
})
const atNs = BigInt(january.from) * 3_600_000_000_000n
const samples = [sample(atNs, 5n), sample(atNs + 60_000_000_000n, 444_444_440_436_005n)]
const key = signingKey(Buffer.alloc(32, 7))

function example(): { receipt: Receipt; evidence: string[] } {
  const cell = emptyCell()
  cell.cpuNs.measured = 444_444_440_436_000n
  cell.cpuNs.longGap = 99n
  const evidence = [
    hourLine({ vmId: 'vm-1', hour: january.from, samples: 2, digest: sampleSetDigest(samples), cell }),
    eventLine({ type: 'x', from: january.from, to: january.to, count: 3, digest: 'ab' }),
  ]
  const usage = [{ meter: 'vm_cpu', group: {}, quantityE9: cell.cpuNs.measured * e9 }]
  const { lines } = ratePeriod(january, [{ segment: january, plan, version, usage }])
  const draft = draftInvoice({
    customerId: 'acme',
    period: january,
    revision: 0,
    currency: 'USD',
    taxPpm: 190_000,
    taxName: null,
    charges: lines,
    adjustments: [],
    grants: [],
  })
  const invoice = invoiceView(draft, {
    number: 'INV-2026-000001',
    state: 'finalised',
    customerName: '=HYPERLINK("x") <script>',
    issuedAt: '2026-02-02T00:00:00.000Z',
    forced: null,
    asOf: '2026-02-02T00:00:00.000Z',
    complete: true,
    blockers: [],
  })
  const cpu = version.prices[0]
  const body = receiptBody({
    invoice,
    seq: 1,
    prevHash: firstHash,
    publicKey: key.publicKey,
    prices: Object.fromEntries(
      invoice.lines.filter(({ kind }) => kind === 'usage').map(({ id }) => [id, cpu && priceJson(cpu)]),
    ),
    segments: [{ segment: january, planId: 'std', version: { version: 1, gapPolicy: 'zero' } }],
    leaves: evidence.map(leafHash),
  })
  const { hash, signature } = sealReceipt(body, key)
  return {
    evidence,
    receipt: {
      receipt: body,
      hash: hash.toString('hex'),
      signature: signature.toString('base64'),
      publicKey: key.publicKey,
    },
  }
}

test('a receipt holds by itself, with its evidence and with the readings; any changed character is found', () => {
  const { receipt, evidence } = example()
  const readings = samples.map(reading => ({ vmId: 'vm-1', ...reading }))
  assert.deepEqual(checkReceipt(receipt, { evidence, samples: readings, publicKey: key.publicKey }), [])
  assert.equal(checkReceipt(receipt, { evidence, samples: readings.slice(1) }).length, 1)
  assert.equal(checkReceipt(receipt, { publicKey: signingKey(Buffer.alloc(32, 8)).publicKey }).length, 1)
  const text = JSON.stringify(receipt.receipt)
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom('0', '9', 'a'), (at, character) => {
      const forged = text.slice(0, at) + character + text.slice(at + 1)
      fc.pre(forged !== text)
      const problems = (() => {
        try {
          return checkReceipt({ ...receipt, receipt: JSON.parse(forged) }, { evidence })
        } catch (error) {
          // No JSON any more, or a field of a kind it cannot have.
          return [String(error)]
        }
      })()
      assert.notDeepEqual(problems, [])
    }),
  )
})

test('billaged-cli verify says so from files alone, and exits 3 after one flipped digit', t => {
  const { receipt, evidence } = example()
  const dir = mkdtempSync(join(tmpdir(), 'purser-receipt-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const file = (name: string, text: string) => {
    writeFileSync(join(dir, name), text)
    return join(dir, name)
  }
  const good = file('good.json', JSON.stringify(receipt))
  const bad = file('bad.json', JSON.stringify(receipt).replace('12345678901', '12345678902'))
  const lines = samples.map(({ atNs, cpuNs }) => `{"vmId":"vm-1","timestamp":${atNs},"cpuTimeNanos":"${cpuNs}"}`)
  const readings = file('samples.ndjson', `${lines.join('\n')}\n`)
  const hours = file('evidence.ndjson', `${evidence.join('\n')}\n`)
  const cli = fileURLToPath(new URL('../cli.ts', import.meta.url))
  const run = (...args: string[]) =>
    execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', cli, 'verify', ...args], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
  assert.equal(
    run(good, '-evidence', hours, '-samples', readings, '-public-key', key.publicKey),
    'holds: INV-2026-000001 of acme, receipt #1, USD 14.69\n',
  )
  assert.throws(
    () => run(bad),
    (error: unknown) => Object(error).status === 3 && /DOES NOT HOLD/.test(Object(error).stdout),
  )
})

test('evidence reads back; the tree is that of RFC 6962; canonical JSON sorts by UTF-16', () => {
  const cell = emptyCell()
  cell.netTxBytes.shortGap = 10n ** 30n
  const row = { vmId: 'vm "1"', hour: 5, samples: 2, digest: 'ab', cell }
  assert.deepEqual(parseHourLine(hourLine(row)), row)
  const leaf = (n: number) => leafHash(String(n))
  const node = (l: Buffer, r: Buffer) => merkleRoot([l, r])
  // Roots that hash as nodes would let a leaf pass for one; of two leaves the root is a node over leaf hashes.
  assert.notDeepEqual(node(leaf(1), leaf(2)), leafHash('12'))
  assert.equal(merkleRoot([]).toString('hex'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  assert.equal(leafHash('').toString('hex'), '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d')
  assert.equal(
    canonicalJson({ '\u20ac': 1, '\r': '\u000f', 1: [true, null] }),
    '{"\\r":"\\u000f","1":[true,null],"\u20ac":1}',
  )
})

test('HTML and CSV carry what customers wrote as text: no markup, no formula', () => {
  fc.assert(
    fc.property(fc.string(), text => {
      assert.doesNotMatch(html(text), /[<>"']/)
      const cell = csvCell(text)
      const shown = cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell
      assert.ok(/^-?\d+(\.\d+)?$/.test(shown) || !/^[=+\-@]/.test(shown))
    }),
  )
  const { receipt } = example()
  assert.doesNotMatch(render(receipt.receipt.invoice, 'html').toString(), /<script>/)
})

test('golden: the bytes that customers keep stay these bytes', () => {
  const { receipt, evidence } = example()
  const { invoice } = receipt.receipt
  assert.equal(
    render(invoice, 'csv').toString(),
    [
      'invoice,number,customer,currency,line,kind,description,price,meter,group,from,to,quantity,amount,adjusts',
      'inv_r5jrhrak6gcrmqcmyh4zsn37g,INV-2026-000001,acme,USD,li_5zkcjs5p689mbrtk7qbng8dyq,usage,cpu,cpu,vm_cpu,,2026-01-01T00:00:00.000Z,2026-02-01T00:00:00.000Z,444444440436000,12.345678901,',
      'inv_r5jrhrak6gcrmqcmyh4zsn37g,INV-2026-000001,acme,USD,li_zqm1vbhs7n410p1npea7n6a5s,tax,Tax 19 %,,,,2026-01-01T00:00:00.000Z,2026-02-01T00:00:00.000Z,0,2.345678991,',
      'inv_r5jrhrak6gcrmqcmyh4zsn37g,INV-2026-000001,acme,USD,li_868jfe7bkr0jn1f86yz5g4yhr,rounding,Rounding in your favour,,,,2026-01-01T00:00:00.000Z,2026-02-01T00:00:00.000Z,0,-0.001357892,',
      '',
    ].join('\r\n'),
  )
  assert.equal(
    evidence[0],
    '{"digest":"5c679c138441e0ad6c90dd061a6a31c4bcea7fa08ccbb5c03c9f66b49fa13c21","hour":490896,"samples":2,"usage":{"cpuNs":{"longGap":"99","measured":"444444440436000"}},"vmId":"vm-1"}',
  )
  const digest = (format: 'json' | 'html') => createHash('sha256').update(render(invoice, format)).digest('hex')
  assert.deepEqual(
    [digest('json'), digest('html'), receipt.receipt.evidence.root, receipt.hash, receipt.signature],
    [
      '196999219893abbd615b212741d61449d60d565d44cc50ac8db58e65df34768c',
      '9610d49fb9a16e85d988aa12cc7c01c8d30350cac747d40c00ce26faff7455c1',
      '02758da26fa6cfd9e978ab6893473825552f7138c945cb51a57017dd7d3dceab',
      '436cb0030137d02a1577afae55aa2c9fcd6d3a1220f0b1a0cadaf59d9fb84d68',
      'm1jk26fbF3h/SPGCLDBj5NMcqugsfF8kgY3O7K0t0Q91cjmh9GOzGh15OTqX9LJ9Grh1hQEEoGrjzOP2prDSAQ==',
    ],
  )
})

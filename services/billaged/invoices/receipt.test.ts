import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { emptyCell } from '../usage/cells.ts'
import { canonicalJson } from './canonical.ts'
import { hourLine, parseHourLine } from './evidence.ts'
import { example, key, samples } from './example.fixture.ts'
import { leafHash, merkleRoot } from './merkle.ts'
import { checkReceipt, signingKey } from './receipt.ts'

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

test('a receipt with one flipped bit, wherever it is, does not hold', () => {
  const { receipt, evidence } = example()
  const bytes = Buffer.from(JSON.stringify(receipt))
  const check = (bit: number) => {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    const problems = (() => {
      try {
        return checkReceipt(JSON.parse(flipped.toString('utf8')), { evidence, publicKey: key.publicKey })
      } catch (error) {
        // No JSON any more, or a field of a kind it cannot have.
        return [String(error)]
      }
    })()
    assert.notDeepEqual(problems, [], `bit ${bit}`)
  }
  fc.assert(fc.property(fc.nat(bytes.length * 8 - 1), check), { numRuns: 300 })
  // Every one of hash, signature and key, whose texts have bits to spare.
  for (let bit = bytes.indexOf('"hash":"') * 8; bit < bytes.length * 8; bit++) check(bit)
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

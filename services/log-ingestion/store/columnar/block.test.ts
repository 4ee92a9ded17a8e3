// Blocks give back what was put in, byte for byte, whatever it was.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BlockError, ByteReader, ByteWriter } from './bytes.ts'
import { Block, tableOf } from './decode.ts'
import { encodeBlock } from './encode.ts'
import { RowTable } from './row-table.ts'

interface Row {
  ns: number
  id: number
  createdUs: number
  level: number
  service: string
  message: string
  metadata: string | null
}

function tableFrom(rows: readonly Row[], idBase = 5_000_000_000_000_000_000n): RowTable {
  const table = new RowTable(rows.length)
  table.idBase = idBase
  const chunks: Buffer[] = []
  let at = 0
  const add = (text: string): [number, number] => {
    const bytes = Buffer.from(text)
    chunks.push(bytes)
    at += bytes.length
    return [at - bytes.length, at]
  }
  for (const row of rows) {
    const i = table.count++
    table.nsOfDay[i] = row.ns
    table.id[i] = row.id
    table.createdUs[i] = row.createdUs
    table.level[i] = row.level
    if (!table.services.includes(row.service)) table.services.push(row.service)
    table.service[i] = table.services.indexOf(row.service)
    const [messageFrom, messageTo] = add(row.message)
    table.messageFrom[i] = messageFrom
    table.messageTo[i] = messageTo
    if (row.metadata === null) table.setNoMetadata(i)
    else {
      const [metadataFrom, metadataTo] = add(row.metadata)
      table.metadataFrom[i] = metadataFrom
      table.metadataTo[i] = metadataTo
    }
  }
  table.bytes = Buffer.concat(chunks)
  return table
}

function rowsOf(block: Block, idBase: bigint): Row[] {
  return Array.from({ length: block.rows }, (_, i) => ({
    ns: block.nsOfDay[i] ?? -1,
    id: (block.ids[i] ?? 0) + Number(block.minId - idBase),
    createdUs: block.createdUs[i] ?? 0,
    level: block.levels[i] ?? 0,
    service: block.services[block.serviceNumbers[i] ?? -1] ?? '',
    message: block.messages.text(i),
    metadata: block.metadata.text(i),
  }))
}

const hex16 = fc.array(fc.constantFrom(...'0123456789abcdef'), { minLength: 16, maxLength: 16 }).map(c => c.join(''))
const value: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary' }).map(text => JSON.stringify(text.toWellFormed())),
  fc.constantFrom('0', '-0', '1e5', '12345678901234567890123', '1.50', 'true', 'null', '-7', '007', '"500"', '""'),
  fc.integer().map(String),
  hex16.map(hex => `"${hex}"`),
  fc.json({ maxDepth: 3 }),
)
const metadata = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(value, value, value).map(([a, b, c]) => `{"a":${a},"b":${b},"request_id":${c}}`) },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.tuple(fc.string(), value), { maxLength: 6 })
      .map(pairs => `{${pairs.map(([key, v]) => `${JSON.stringify(key)} : ${v}`).join(' ,\n')} }`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('{}', ' { } ', '[]', '{"a":1', '{"a" 1}', '"x"', '{"a":}', '{"a":1,}', '{,}', '{"a":"b'),
  },
)
const row: fc.Arbitrary<Row> = fc.record(
  {
    ns: fc.oneof(
      fc.integer({ min: 0, max: 86_399_999 }).map(ms => ms * 1_000_000),
      fc.integer({ min: 0, max: 86_399 }).map(s => s * 1_000_000_000 + 999_999_999),
    ),
    id: fc.integer({ min: 0, max: 1_000_000 }),
    createdUs: fc.integer({ min: 0, max: 1_900_000_000_000_000 }),
    level: fc.integer({ min: 0, max: 7 }),
    service: fc.string({ unit: 'grapheme', maxLength: 20 }),
    message: fc.oneof(
      fc.string({ unit: 'grapheme' }),
      hex16.map(hex => `GET /a?id=${hex} 200`),
    ),
    metadata: fc.option(metadata),
  },
  { noNullPrototype: true },
)

for (const isCold of [false, true])
  test(`a ${isCold ? 'cold' : 'fresh'} block gives back what went in: any Unicode, any JSON text, key order and digits kept`, () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 60 }), rows => {
        // Half of the rows repeat a value of theirs in the message.
        rows.forEach((r, i) => {
          if (i % 2 === 0) r.message += r.metadata ?? ''
          r.id = r.id * 64 + i
        })
        const table = tableFrom(rows)
        const order = table.order()
        const encoded = encodeBlock(table, order, 0, table.count, { level: 1, isCold })
        const expected = rows.toSorted((a, b) => a.ns - b.ns || a.id - b.id)
        const block = new Block(encoded)
        assert.deepEqual(rowsOf(block, table.idBase), expected)
        assert.equal(encoded.minNs, BigInt(expected[0]?.ns ?? -1))
        assert.equal(encoded.maxNs, BigInt(expected.at(-1)?.ns ?? -1))
        assert.equal(encoded.minId, table.idBase + BigInt(Math.min(...rows.map(r => r.id))))
        assert.equal(encoded.maxId, table.idBase + BigInt(Math.max(...rows.map(r => r.id))))

        // And once more from the decoded block, a part of the rows left out.
        const half = tableOf([block], (_, i) => i % 2 === 0)
        if (half.count === 0) return
        const again = new Block(encodeBlock(half, half.order(), 0, half.count, { level: 3, isCold: !isCold }))
        assert.deepEqual(
          rowsOf(again, table.idBase),
          expected.filter((_, i) => i % 2 === 0),
        )
      }),
      { numRuns: 300 },
    )
  })

test('rows that came in the order of their ids sort by time and id, in each of the ways there are to sort', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 200 }),
      fc.constantFrom(1, 1_000, 1_000_000),
      (times, scale) => {
        const table = tableFrom(
          times.map((time, i) => ({
            ns: time * scale,
            id: i,
            createdUs: 0,
            level: 0,
            service: '',
            message: '',
            metadata: null,
          })),
        )
        const order = [...table.order()]
        assert.deepEqual(
          order,
          times.map((_, i) => i).sort((a, b) => (times[a] ?? 0) - (times[b] ?? 0) || a - b),
        )
      },
    ),
  )
})

test('a changed byte is noticed, not decoded', () => {
  const rows = Array.from(
    { length: 500 },
    (_, i): Row => ({
      ns: i * 1_000,
      id: i,
      createdUs: i,
      level: i % 8,
      service: `s${i % 3}`,
      message: `message ${i}`,
      metadata: `{"i":${i},"t":"x${i}"}`,
    }),
  )
  const table = tableFrom(rows)
  const encoded = encodeBlock(table, table.order(), 0, table.count, { level: 1, isCold: false })
  fc.assert(
    fc.property(
      fc.constantFrom('head', 'messages', 'metadata'),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (name, at, flip) => {
        const bytes = Buffer.from(encoded[name])
        const index = at % bytes.length
        bytes[index] = (bytes[index] ?? 0) ^ flip
        try {
          const found = rowsOf(new Block({ ...encoded, [name]: bytes }), table.idBase)
          // Lengths before packing are not under a checksum; they say nothing that could change a row.
          assert.deepEqual(found, rows)
        } catch (error) {
          assert.ok(error instanceof BlockError || (error instanceof Error && 'code' in error), String(error))
        }
      },
    ),
    { numRuns: 500 },
  )
})

test('varints of both signs come back', () => {
  fc.assert(
    fc.property(fc.array(fc.maxSafeInteger()), numbers => {
      const writer = new ByteWriter(1)
      const small = numbers.map(n => Math.trunc(n / 4))
      for (const n of small) writer.zigzag(n)
      const reader = new ByteReader(writer.finish())
      assert.deepEqual(
        small.map(() => reader.zigzag() + 0),
        small.map(n => n + 0),
      )
    }),
  )
})

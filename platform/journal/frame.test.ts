import assert from 'node:assert/strict'
import test from 'node:test'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  type FrameKey,
  formatVersion,
  frameHeaderBytes,
  framesFrom,
  scanFrames,
  writeFrameHeader,
} from './frame.ts'

const key: FrameKey = { marker: 0x1badcafe, seed: 77 }

function frame(payload: Uint8Array, sequence: number, of: FrameKey = key): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(frameHeaderBytes), payload])
  writeFrameHeader(bytes, 0, of, { lengthBytes: payload.length, sequence, writtenMs: 5, payloadCrc: crc32(payload) })
  return bytes
}

const payloads = fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 12 })

test('frames are read back whatever the payload is', () => {
  fc.assert(
    fc.property(payloads, list => {
      const bytes = Buffer.concat(list.map((payload, i) => frame(payload, i + 1)))
      const scan = scanFrames(bytes, 0, bytes.length, key)
      assert.deepEqual(
        scan.frames.map(f => [f.sequence, new Uint8Array(f.payload)]),
        list.map((payload, i) => [i + 1, new Uint8Array(payload)]),
      )
      assert.deepEqual(scan.damage, [])
    }),
  )
})

test('reading in pieces of any size gives the same frames and the same damage', () => {
  fc.assert(
    fc.property(
      payloads,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      fc.integer({ min: 1, max: 90 }),
      (list, at, flip, piece) => {
        const bytes = Buffer.concat(list.map((payload, i) => frame(payload, i + 1)))
        const place = at % bytes.length
        bytes[place] = (bytes[place] ?? 0) ^ flip
        const whole = scanFrames(bytes, 0, bytes.length, key)
        const sequences: number[] = []
        let next = 0
        for (let want = piece; next < bytes.length; ) {
          const scan = scanFrames(bytes.subarray(next, next + want), next, bytes.length, key)
          sequences.push(...scan.frames.map(f => f.sequence))
          want = scan.next > next ? piece : Math.max(scan.wantedBytes, want + 1)
          next = scan.next
        }
        assert.deepEqual(
          sequences,
          whole.frames.map(f => f.sequence),
        )
      },
    ),
  )
})

test('damage taken in pieces is the damage taken whole', () => {
  const noise = fc.uint8Array({ minLength: 60, maxLength: 400 })
  fc.assert(
    fc.property(payloads, noise, payloads, fc.integer({ min: 30, max: 90 }), (before, junk, after, piece) => {
      const frames = (list: readonly Uint8Array[], first: number) => list.map((payload, i) => frame(payload, first + i))
      const bytes = Buffer.concat([...frames(before, 1), junk, ...frames(after, before.length + 1)])
      const whole = scanFrames(bytes, 0, bytes.length, key)
      const sequences: number[] = []
      const damage: { from: number; to: number }[] = []
      for (let next = 0, want = piece; next < bytes.length; ) {
        const scan = scanFrames(bytes.subarray(next, next + want), next, bytes.length, key, true)
        sequences.push(...scan.frames.map(f => f.sequence))
        for (const { from, to } of scan.damage) {
          const last = damage.at(-1)
          if (last?.to === from) last.to = to
          else damage.push({ from, to })
        }
        assert.ok(scan.next > next || scan.wantedBytes <= 40 + frameHeaderBytes, 'never all that is left')
        want = scan.next > next ? piece : Math.max(scan.wantedBytes, want + 1)
        next = scan.next
      }
      assert.deepEqual(
        [sequences, damage],
        [whole.frames.map(f => f.sequence), whole.damage.map(({ from, to }) => ({ from, to }))],
      )
    }),
  )
})

test('one changed byte costs the frame it lies in and no other', () => {
  fc.assert(
    fc.property(payloads, fc.nat(), fc.integer({ min: 1, max: 255 }), (list, at, flip) => {
      const frames = list.map((payload, i) => frame(payload, i + 1))
      const bytes = Buffer.concat(frames)
      const place = at % bytes.length
      bytes[place] = (bytes[place] ?? 0) ^ flip
      const hit = 1 + frames.findIndex((_, i) => place < Buffer.concat(frames.slice(0, i + 1)).length)
      const scan = scanFrames(bytes, 0, bytes.length, key)
      assert.deepEqual(
        scan.frames.map(f => f.sequence),
        frames.map((_, i) => i + 1).filter(sequence => sequence !== hit),
      )
      assert.equal(scan.damage.length, 1)
      assert.ok(scan.damage.every(range => range.from <= place && place < range.to))
    }),
  )
})

test('a frame inside a payload is not found by the search after damage', () => {
  const planted = frame(Buffer.from('planted'), 2, { marker: 0x12345678, seed: 1 })
  const bytes = Buffer.concat([frame(planted, 1), frame(Buffer.from('next'), 2)])
  bytes[5] = (bytes[5] ?? 0) ^ 1 // the length of the first frame
  const scan = scanFrames(bytes, 0, bytes.length, key)
  assert.deepEqual(
    scan.frames.map(f => f.payload.toString()),
    ['next'],
  )
})

test('a segment header survives the loss of either copy', () => {
  const id = Buffer.alloc(16, 9)
  const previous = { id: Buffer.alloc(16, 8), end: 56 }
  for (const [lost, isReused] of [
    [0, false],
    [4096, true],
  ] as const) {
    const header = { ...key, id, firstSequence: 12, createdMs: 34, isReused, previous }
    const bytes = encodeSegmentHeader(header)
    assert.equal(bytes.length, framesFrom)
    bytes.fill(0xff, lost, lost + 512)
    assert.deepEqual(decodeSegmentHeader(bytes), { version: formatVersion, ...header })
  }
  assert.equal(decodeSegmentHeader(Buffer.alloc(framesFrom)), undefined)
})

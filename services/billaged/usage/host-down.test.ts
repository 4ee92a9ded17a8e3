import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { withoutHost } from './host-down.ts'

test('host-down pieces are exactly the unmeasured time outside every lease', () => {
  const edges = fc.uniqueArray(fc.nat(60), { maxLength: 10 }).map(list => list.toSorted((a, b) => a - b))
  fc.assert(
    fc.property(edges, fc.nat(60), fc.nat(60), (list, a, b) => {
      const spans: { fromNs: bigint; toNs: bigint }[] = []
      for (let i = 0; i + 1 < list.length; i += 2)
        spans.push({ fromNs: BigInt(list[i] ?? 0), toNs: BigInt(list[i + 1] ?? 0) })
      const [from, to] = [Math.min(a, b), Math.max(a, b)]
      const stretch = {
        field: 'timeNs',
        fromNs: BigInt(from),
        toNs: BigInt(to),
        amount: BigInt(to - from),
        kind: 'longGap',
      } as const
      const pieces = withoutHost(stretch, { wasListed: true, spans })
      for (let t = 0; t < 60; t++) {
        const [start, end] = [BigInt(t), BigInt(t + 1)]
        const covered = spans.some(span => span.fromNs <= start && end <= span.toNs)
        const inside = from <= t && t + 1 <= to
        assert.equal(
          pieces.filter(piece => piece.fromNs <= start && end <= piece.toNs).length,
          inside && !covered ? 1 : 0,
        )
      }
      assert.deepEqual(withoutHost(stretch, { wasListed: false, spans }), [])
      assert.deepEqual(withoutHost({ ...stretch, kind: 'measured' }, { wasListed: true, spans }), [])
    }),
  )
})

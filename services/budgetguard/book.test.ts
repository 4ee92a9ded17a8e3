import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { sum } from './amount.ts'
import { type Account, Book, type Hold } from './book.ts'
import { planFold } from './fold-plan.ts'
import { onePpm } from './price.ts'
import type { CallFacts, HoldRecord, Record } from './record.ts'
import { decodeRecord, encodeRecord } from './record.ts'
import { type AccountRow, grantOf, returnOf, type SliceRow, settleInto } from './slice.ts'

// Two processes and three accounts over one central book, driven by the same pure rules the database transactions use.
// The journal of a process survives its crash; everything in its memory does not.

const accountIds = [1n, 2n, 3n]
const call: CallFacts = {
  atMs: 0,
  requestId: 'r',
  tenantId: 1,
  tenantSlug: 'acme',
  keyId: 1n,
  keyPrefix: 'k',
  route: '/v1/chat/completions',
  provider: 'echo',
  model: 'echo',
  priceId: 1,
  sessionId: null,
  endUser: null,
  isStream: false,
}

interface World {
  accounts: Map<bigint, AccountRow>
  slices: Map<string, SliceRow>
  nodes: Node[]
  nextHold: number
}

interface Node {
  index: number
  fence: bigint
  book: Book
  journal: Buffer[]
  folded: number
  /** The mirror: opened in a folded stretch, no end folded yet. */
  mirror: Map<string, HoldRecord>
}

function newWorld(limits: readonly bigint[]): World {
  const world: World = { accounts: new Map(), slices: new Map(), nodes: [], nextHold: 0 }
  accountIds.forEach((id, i) => {
    world.accounts.set(id, { limit: limits[i] ?? 0n, settled: 0n, granted: 0n })
  })
  for (const index of [0, 1]) {
    const node: Node = { index, fence: 1n, book: new Book(), journal: [], folded: 0, mirror: new Map() }
    fillBook(world, node)
    world.nodes.push(node)
  }
  return world
}

function fillBook(world: World, node: Node) {
  for (const id of accountIds)
    node.book.addAccount({
      id,
      budgetId: Number(id),
      tenantId: 1,
      scope: 'tenant t',
      period: 'daily',
      window: { start: 0, end: 1 },
      central: { ...must(world.accounts.get(id)) },
    })
}

function admit(world: World, node: Node, ids: readonly bigint[], amount: bigint): boolean {
  const hold: Hold = {
    id: `h${world.nextHold++}`,
    amount,
    parts: ids.map(accountId => ({ accountId, weightPpm: onePpm, amount })),
    openedMs: 0,
    deadlineMs: 1_000,
  }
  const short = node.book.place(hold, 0)
  if (short) {
    for (const { account, missing } of short) acquire(world, node, account, missing)
    if (node.book.place(hold, 0)) return false
  }
  journal(node, {
    type: 'hold',
    id: hold.id,
    fence: node.fence,
    amount,
    amountOfOutput: 0n,
    deadlineAtMs: 0,
    parts: hold.parts,
    call,
  })
  return true
}

function acquire(world: World, node: Node, account: Account, missing: bigint) {
  const row = must(world.accounts.get(account.id))
  const amount = grantOf(row, { least: missing, wanted: missing, target: missing * 4n })
  if (amount === 0n) return
  row.granted += amount
  const slice = sliceOf(world, account.id, node)
  slice.granted += amount
  account.central = { ...row }
  node.book.granted(account, amount, { usableUntilMs: Number.POSITIVE_INFINITY, nowMs: 0 })
}

function end(node: Node, pick: number, percent: bigint) {
  const open = [...node.book.holds()]
  const hold = open[pick % Math.max(1, open.length)]
  if (!hold) return
  const actual = (hold.amount * percent) / 100n
  const ended = must(node.book.end(hold.id, actual, 0))
  assert.equal(node.book.end(hold.id, actual, 0), null, 'a second end finds nothing')
  journal(node, endRecord(hold.id, node.fence, hold.amount, ended.parts, actual))
}

function endRecord(
  id: string,
  fence: bigint,
  held: bigint,
  parts: { accountId: bigint; held: bigint; settled: bigint }[],
  settled: bigint,
): Record {
  return {
    type: 'end',
    id,
    fence,
    held,
    parts,
    call,
    outcome: {
      status: 'success',
      reason: null,
      input: 1n,
      cacheRead: 0n,
      cacheWrite: 0n,
      output: 1n,
      reasoning: 0n,
      usageSource: 'reported',
      settled,
      exact: settled * 1_000_000_000_000n,
      upstreamId: null,
      latencyMs: 1,
      flags: [],
    },
  }
}

function fold(world: World, node: Node, records: number) {
  const from = node.folded
  const stretch = node.journal.slice(from, from + records)
  const plan = planFold(stretch.map((bytes, i) => ({ sequence: BigInt(from + i), record: decodeRecord(bytes) })))
  for (const entry of plan.settled) {
    const row = must(world.accounts.get(entry.accountId))
    const slice = world.slices.get(`${entry.accountId}/${node.index}/${entry.fence}`) ?? null
    const after = settleInto(row, slice, entry)
    if (slice) slice.consumed += after.consumed
    row.settled = after.settled
    row.granted = after.granted
    assert.equal(after.overspend, 0n)
    if (entry.fence === node.fence)
      node.book.folded(entry.accountId, { settled: entry.amount, consumed: after.consumed, central: { ...row } })
  }
  for (const record of plan.opened) node.mirror.set(record.id, record)
  for (const id of plan.closed) assert.ok(node.mirror.delete(id), 'an end without a hold')
  node.folded += stretch.length
}

function giveBack(world: World, node: Node, id: bigint) {
  const account = must(node.book.account(id))
  const unused = node.book.takeUnused(account)
  const slice = world.slices.get(`${id}/${node.index}/${node.fence}`)
  if (!slice) return assert.equal(unused, 0n)
  const returned = returnOf(slice, unused)
  assert.equal(returned, unused, 'a process never returns what it holds')
  slice.granted -= returned
  must(world.accounts.get(id)).granted -= returned
}

/** kill -9 and a restart with the same data folder. */
function crash(world: World, node: Node, policy: 'hold' | 'release') {
  node.book = new Book()
  node.fence += 1n
  fillBook(world, node)
  fold(world, node, node.journal.length)
  for (const hold of [...node.mirror.values()]) {
    const settled = policy === 'hold' ? hold.amount : 0n
    const parts = hold.parts.map(p => ({ accountId: p.accountId, held: p.amount, settled: settled && p.amount }))
    journal(node, endRecord(hold.id, hold.fence, hold.amount, parts, settled))
  }
  fold(world, node, node.journal.length)
  assert.equal(node.mirror.size, 0)
  for (const [key, slice] of world.slices) {
    const [id = '', index = '', fence = ''] = key.split('/')
    if (Number(index) !== node.index || BigInt(fence) === node.fence) continue
    must(world.accounts.get(BigInt(id))).granted -= slice.granted - slice.consumed
    slice.granted = slice.consumed
  }
  fillBook(world, node)
}

/** What the journals prove was spent, and what they show as open, per account. */
function journaled(world: World, id: bigint) {
  let settled = 0n
  let open = 0n
  const ends = new Map<string, number>()
  for (const node of world.nodes) {
    for (const bytes of node.journal) {
      const record = decodeRecord(bytes)
      if (record.type === 'hold') open += sum(record.parts.filter(p => p.accountId === id).map(p => p.amount))
      if (record.type !== 'end') continue
      ends.set(record.id, (ends.get(record.id) ?? 0) + 1)
      for (const part of record.parts) {
        if (part.accountId !== id) continue
        open -= part.held
        settled += part.settled
      }
    }
  }
  assert.ok(
    [...ends.values()].every(n => n === 1),
    'a hold has exactly one end',
  )
  return { settled, open }
}

function check(world: World) {
  for (const id of accountIds) {
    const row = must(world.accounts.get(id))
    const { settled, open } = journaled(world, id)
    assert.ok(settled + open <= row.limit, `account ${id}: ${settled} settled + ${open} held > ${row.limit}`)
    assert.ok(row.settled + row.granted <= row.limit, `account ${id}: the central book breaks its limit`)
    assert.ok(row.granted >= 0n)
  }
}

const amount = fc.bigInt(0n, 40n)
const nodeIndex = fc.nat({ max: 1 })
const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('admit' as const),
      node: nodeIndex,
      ids: fc.subarray(accountIds, { minLength: 1 }),
      amount,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      node: nodeIndex,
      pick: fc.nat({ max: 9 }),
      percent: fc.bigInt(0n, 100n),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('fold' as const), node: nodeIndex, records: fc.nat({ max: 5 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('giveBack' as const),
      node: nodeIndex,
      id: fc.constantFrom(...accountIds),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      node: nodeIndex,
      policy: fc.constantFrom('hold' as const, 'release' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('raise' as const), id: fc.constantFrom(...accountIds), amount }),
  },
)

test('no interleaving of admissions, ends, folds, returned slices, crashes and raises lets two processes pass a limit', () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt(0n, 100n), { minLength: 3, maxLength: 3 }),
      fc.array(operation, { maxLength: 60 }),
      (limits, operations) => {
        const world = newWorld(limits)
        for (const op of operations) {
          apply(world, op)
          check(world)
        }
        for (const node of world.nodes) {
          while (node.book.openHolds > 0) end(node, 0, 50n)
          fold(world, node, node.journal.length)
          for (const id of accountIds) giveBack(world, node, id)
          assert.equal(node.book.heldNano, 0n)
          for (const account of node.book.accounts())
            assert.deepEqual([account.held, account.unfolded, account.slice], [0n, 0n, 0n], 'money is left behind')
        }
        for (const id of accountIds) {
          const row = must(world.accounts.get(id))
          assert.equal(row.granted, 0n)
          assert.equal(row.settled, journaled(world, id).settled, 'the central book is the sum of the ledger')
        }
      },
    ),
    { numRuns: 400 },
  )
})

function apply(world: World, op: typeof operation extends fc.Arbitrary<infer T> ? T : never) {
  switch (op.kind) {
    case 'admit':
      return void admit(world, nodeOf(world, op.node), op.ids, op.amount)
    case 'end':
      return end(nodeOf(world, op.node), op.pick, op.percent)
    case 'fold':
      return fold(world, nodeOf(world, op.node), op.records)
    case 'giveBack':
      return giveBack(world, nodeOf(world, op.node), op.id)
    case 'crash':
      return crash(world, nodeOf(world, op.node), op.policy)
    case 'raise':
      must(world.accounts.get(op.id)).limit += op.amount
  }
}

test('one process admits exactly as many equal holds as the limit pays for', () => {
  fc.assert(
    fc.property(fc.bigInt(1n, 1_000n), fc.bigInt(0n, 20_000n), fc.nat({ max: 40 }), (each, limit, calls) => {
      const world = newWorld([limit, limit * 2n, limit])
      const node = nodeOf(world, 0)
      let admitted = 0n
      for (let i = 0; i < calls; i++) if (admit(world, node, [1n, 2n, 3n], each)) admitted += 1n
      const fits = limit / each
      assert.equal(admitted, fits < BigInt(calls) ? fits : BigInt(calls))
    }),
  )
})

test('a hold that does not fit one account takes nothing from the others', () => {
  const world = newWorld([100n, 5n, 100n])
  const node = nodeOf(world, 0)
  assert.equal(admit(world, node, [1n, 2n, 3n], 10n), false)
  for (const account of node.book.accounts()) assert.equal(account.held, 0n)
  assert.equal(node.journal.length, 0)
})

test('a slice past its time admits nothing, and what it holds still settles', () => {
  const world = newWorld([100n, 100n, 100n])
  const node = nodeOf(world, 0)
  assert.ok(admit(world, node, [1n], 10n))
  const account = must(node.book.account(1n))
  node.book.renewed(account, 5)
  const late = { id: 'late', amount: 1n, parts: [{ accountId: 1n, weightPpm: onePpm, amount: 1n }] }
  assert.ok(node.book.place({ ...late, openedMs: 9, deadlineMs: 99 }, 9))
  assert.equal(node.book.free(account, 9), 0n)
  end(node, 0, 100n)
  fold(world, node, node.journal.length)
  assert.equal(must(world.accounts.get(1n)).settled, 10n)
})

test('what a provider charges beyond its hold is booked in full and named overspend only above the limit', () => {
  const account = { limit: 100n, settled: 80n, granted: 20n }
  const slice = { granted: 20n, consumed: 0n }
  assert.deepEqual(settleInto(account, slice, { amount: 30n, overrun: 15n }), {
    settled: 110n,
    granted: 0n,
    consumed: 20n,
    overspend: 10n,
  })
  assert.equal(settleInto(account, slice, { amount: 18n, overrun: 3n }).overspend, 0n)
})

test('a record read back is the record that was written, whatever a caller called itself', () => {
  fc.assert(
    fc.property(fc.string(), fc.bigInt(), fc.array(fc.bigInt(), { maxLength: 3 }), (text, n, amounts) => {
      const hostile = [text, '12n', '-5n'].map(requestId => ({
        ...call,
        requestId,
        model: requestId,
        sessionId: requestId,
      }))
      for (const facts of hostile) {
        const parts = amounts.map(amount => ({ accountId: n, held: amount, settled: amount }))
        const record = { ...endRecord('id', n, n, parts, n), call: facts }
        assert.deepEqual(decodeRecord(encodeRecord(record)), record)
      }
    }),
  )
})

function journal(node: Node, record: Record) {
  node.journal.push(encodeRecord(record))
}

function sliceOf(world: World, id: bigint, node: Node): SliceRow {
  const key = `${id}/${node.index}/${node.fence}`
  const slice = world.slices.get(key) ?? { granted: 0n, consumed: 0n }
  world.slices.set(key, slice)
  return slice
}

function nodeOf(world: World, index: number): Node {
  return must(world.nodes[index])
}

function must<T>(value: T | undefined | null): T {
  assert.ok(value !== undefined && value !== null)
  return value
}

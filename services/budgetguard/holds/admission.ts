// Reserve, act, settle: the life of a call's money.
//
//   admit: windows → accounts → hold on all of them (or 402) → journal, durable → the call may be sent
//   end:   book → journal, durable → the last byte of the answer may be sent
//   A process that dies in between leaves a hold without an end in its journal; holds/recovery.ts ends it.

import { randomUUID } from 'node:crypto'
import { type Journal, JournalDiskError } from '#platform/journal'
import { formatUsd } from '#platform/money'
import type { Logger } from '#platform/telemetry'
import { type Clock, rfc3339, sleep } from '#platform/time'
import { notNegative } from '../amount.ts'
import type { BudgetOfError, ScopeState } from '../api.ts'
import type { Account, Book, Hold, Shortfall } from '../book.ts'
import { type Bound, holdNano, limitThatFits } from '../bound.ts'
import { budgetExceeded, draining, Refusal, storeUnavailable } from '../errors.ts'
import { onePpm } from '../price.ts'
import {
  type CallFacts,
  type EndRecord,
  encodeRecord,
  type HoldRecord,
  type Outcome,
  type RefusalRecord,
} from '../record.ts'
import type { AccountKey, NodeLife } from '../store/accounts.ts'
import type { BudgetRule } from '../store/catalog.ts'
import { rememberWindows } from '../window.ts'
import type { Leases } from './leases.ts'
import { endOrphan, type OrphanPolicy } from './recovery.ts'

/** What a call may cost, and how far its output limit may shrink to fit. */
export interface Quote {
  bound: Bound
  limit: bigint
  /** Equal to `limit` when the caller's limit must not change. */
  limitLeast: bigint
}

export interface Admitted {
  holdId: string
  call: CallFacts
  /** Nano-dollars held. */
  held: bigint
  /** The output limit the hold covers, per choice. */
  limit: bigint
  admittedMs: number
  accounts: readonly Account[]
}

export interface Admission {
  /** Wall time for a new call; never goes back, so that no window is ever reopened. */
  now(): number
  /** The accounts of a tenant's budgets at an instant, opened when new. Inert budgets have none. */
  accountsAt(budgets: readonly BudgetRule[], zone: string, atMs: number, scope: string): Promise<Account[]>
  /** 402 when one of them is already spent. */
  refuseSpent(accounts: readonly Account[]): void
  admit(call: CallFacts, accounts: readonly Account[], quote: Quote, timeoutMs: number): Promise<Admitted>
  /** Durable when it resolves. A second end is counted and otherwise ignored. */
  end(admitted: Admitted, outcome: Outcome): Promise<void>
  /** A call that never held money, as a row. */
  refuse(call: CallFacts, status: 'blocked' | 'failed', reason: string): Promise<void>
  /** The scope with the least left. */
  tightest(accounts: readonly Account[]): { scope: string; remaining: bigint } | null
  state(account: Account): ScopeState
  holds(): Iterable<{ hold: Hold; record: HoldRecord }>
  /** Refuses new calls from now on. */
  drain(): void
  close(): Promise<void>
}

/** Past its call's timeout a hold gets this long before the reaper ends it. */
const deadlineMarginMs = 30_000
const reapEveryMs = 5_000
const retryMs = 1_000
/** Ends that wait for the disk. Beyond it the next start books the holds by policy. */
const unsavedMax = 10_000
/** Ends must always find room: new holds stop before the journal is full. */
const journalShareForHolds = 0.9

export function openAdmission(o: {
  book: Book
  leases: Leases
  journal: Journal
  journalBytesMax: number
  node: NodeLife
  orphanPolicy: OrphanPolicy
  log: Logger
  clock: Clock
  observe: {
    ended(record: EndRecord): void
    refused(record: RefusalRecord): void
    secondEnd(): void
    reaped(reason: string): void
  }
}): Admission {
  const { book, leases, journal, node, log, clock, observe } = o
  const records = new Map<string, HoldRecord>()
  /** Ends whose append failed: the money is booked in memory, the journal still shows the hold as open. */
  const unsaved: EndRecord[] = []
  const windowOf = rememberWindows()
  const closing = new AbortController()
  let newestMs = 0
  let isDraining = false

  const now = () => {
    newestMs = Math.max(newestMs, clock.now())
    return newestMs
  }

  const append = async (record: HoldRecord | EndRecord | RefusalRecord) => {
    try {
      await journal.append(encodeRecord(record))
    } catch (error) {
      throw storeUnavailable(error)
    }
  }

  const saveEnd = async (record: EndRecord) => {
    observe.ended(record)
    try {
      await append(record)
    } catch (error) {
      unsaved.push(record)
      log.error({ err: error, unsaved: unsaved.length }, 'a settlement could not be made durable; tried again')
      throw error
    }
  }

  const saveUnsaved = async () => {
    for (let record = unsaved[0]; record; record = unsaved[0]) {
      await append(record)
      unsaved.shift()
    }
  }

  const reap = async () => {
    for (const hold of book.overdue(clock.monotonicMs())) {
      const record = records.get(hold.id)
      if (!record) continue
      const end = endOrphan(record, o.orphanPolicy, 'DEADLINE')
      if (!book.end(hold.id, end.outcome.settled, clock.monotonicMs())) continue
      records.delete(hold.id)
      observe.reaped('deadline')
      log.error({ holdId: hold.id, requestId: record.call.requestId }, 'a hold passed its deadline and was ended')
      await saveEnd(end).catch(() => undefined)
    }
  }

  const loop = async (everyMs: number, work: () => Promise<void>) => {
    while (!closing.signal.aborted) {
      await sleep(everyMs, closing.signal).catch(() => undefined)
      if (!closing.signal.aborted) await work().catch(() => undefined)
    }
  }
  const loops = [loop(reapEveryMs, reap), loop(retryMs, saveUnsaved)]

  const refusalFor = (short: readonly Shortfall[], requested: bigint): Refusal => {
    const [first] = short
    if (!first) throw new Error('BUG: a refusal without a reason')
    const tightest = short.reduce((a, b) => (b.missing > a.missing ? b : a), first)
    return budgetExceeded(budgetOfError(tightest.account, requested), book.isSpent(tightest.account))
  }

  const budgetOfError = (account: Account, requested: bigint): BudgetOfError => {
    const { remainingUsd, ...state } = scopeState(book, account)
    return { ...state, requestedUsd: formatUsd(requested) }
  }

  return {
    now,

    async accountsAt(budgets, zone, atMs, scope) {
      const keys: AccountKey[] = []
      for (const rule of budgets) {
        const window = windowOf(rule, rule.zone ?? zone, atMs)
        if (window) keys.push({ budgetId: rule.id, windowStart: window.start, windowEnd: window.end })
      }
      if (keys.some(key => !book.accountOf(key.budgetId, key.windowStart))) {
        const periods = new Map(budgets.map(rule => [rule.id, rule.period]))
        const tenantId = budgets[0]?.tenantId ?? 0
        try {
          await leases.openAccounts(tenantId, keys, key => ({
            tenantId,
            scope,
            period: periods.get(key.budgetId) ?? 'custom',
          }))
        } catch (error) {
          throw storeUnavailable(error)
        }
      }
      // A budget that is gone by now opened no account: it binds nobody.
      return keys.flatMap(key => book.accountOf(key.budgetId, key.windowStart) ?? [])
    },

    refuseSpent(accounts) {
      for (const account of accounts) if (book.isSpent(account)) throw budgetExceeded(budgetOfError(account, 0n), true)
    },

    async admit(call, accounts, quote, timeoutMs) {
      if (isDraining) throw draining()
      if (journal.bytes > o.journalBytesMax * journalShareForHolds)
        throw storeUnavailable(new Error('the journal is nearly full'))
      const openedMs = clock.monotonicMs()
      const holdId = randomUUID()
      let limit = quote.limit
      let hold = newHold(holdId, accounts, holdNano(quote.bound, limit), openedMs, timeoutMs)
      const place = (mayShrink: boolean): Shortfall[] | null => {
        const nowMs = clock.monotonicMs()
        const short = book.place(hold, nowMs)
        if (short === null || !mayShrink || quote.limitLeast >= quote.limit) return short
        const free = accounts.reduce<bigint | null>((a, account) => {
          const here = book.free(account, nowMs)
          return a === null || here < a ? here : a
        }, null)
        const fits = limitThatFits(quote.bound, free ?? 0n)
        if (fits < quote.limitLeast) return short
        limit = fits
        hold = newHold(holdId, accounts, holdNano(quote.bound, limit), openedMs, timeoutMs)
        return book.place(hold, nowMs)
      }
      const requested = hold.amount
      if (place(false)) {
        const least = holdNano(quote.bound, quote.limitLeast)
        const want = { accounts, amount: requested, least, place: () => place(true) }
        const short = await leases.obtain(want).catch((error: unknown) => {
          throw storeUnavailable(error)
        })
        if (short) throw refusalFor(short, requested)
      }
      const record: HoldRecord = {
        type: 'hold',
        id: holdId,
        fence: node.fence,
        amount: hold.amount,
        amountOfOutput: hold.amount - holdNano(quote.bound, 0n),
        deadlineAtMs: call.atMs + timeoutMs + deadlineMarginMs,
        parts: hold.parts,
        call,
      }
      records.set(holdId, record)
      try {
        await append(record)
      } catch (error) {
        records.delete(holdId)
        book.end(holdId, 0n, clock.monotonicMs())
        // A full journal kept nothing. After a disk error the hold may be on disk all the same: an end of zero follows
        // it as soon as the disk answers, or the next start would book a call that was never sent.
        if (error instanceof Refusal && error.cause instanceof JournalDiskError && unsaved.length < unsavedMax)
          unsaved.push(endOrphan(record, 'release', 'BUDGET_STORE_UNAVAILABLE'))
        throw error
      }
      return { holdId, call, held: hold.amount, limit, admittedMs: openedMs, accounts }
    },

    async end(admitted, outcome) {
      const ended = book.end(admitted.holdId, outcome.settled, clock.monotonicMs())
      records.delete(admitted.holdId)
      if (!ended) return observe.secondEnd()
      await saveEnd({
        type: 'end',
        id: admitted.holdId,
        fence: node.fence,
        held: admitted.held,
        parts: ended.parts,
        call: admitted.call,
        outcome,
      })
    },

    async refuse(call, status, reason) {
      const record: RefusalRecord = { type: 'refusal', call, status, reason }
      observe.refused(record)
      await append(record)
    },

    tightest(accounts) {
      let found: { scope: string; remaining: bigint } | null = null
      for (const account of accounts) {
        const remaining = remainingOf(book, account)
        if (found === null || remaining < found.remaining)
          found = { scope: `${account.scope}, ${account.period}`, remaining }
      }
      return found
    },

    state: account => scopeState(book, account),

    *holds() {
      for (const hold of book.holds()) {
        const record = records.get(hold.id)
        if (record) yield { hold, record }
      }
    },

    drain() {
      isDraining = true
    },

    async close() {
      closing.abort()
      await Promise.all(loops)
      await saveUnsaved().catch((error: unknown) =>
        log.error(
          { err: error, unsaved: unsaved.length },
          'settlements were not made durable; the next start books their holds',
        ),
      )
    },
  }
}

function newHold(id: string, accounts: readonly Account[], amount: bigint, openedMs: number, timeoutMs: number): Hold {
  return {
    id,
    amount,
    parts: accounts.map(account => ({ accountId: account.id, weightPpm: onePpm, amount })),
    openedMs,
    deadlineMs: openedMs + timeoutMs + deadlineMarginMs,
  }
}

function remainingOf(book: Book, account: Account): bigint {
  return notNegative(account.central.limit - book.spent(account) - book.heldByAll(account))
}

function scopeState(book: Book, account: Account): ScopeState {
  return {
    scope: account.scope,
    budgetId: account.budgetId,
    period: account.period,
    limitUsd: formatUsd(account.central.limit),
    spentUsd: formatUsd(book.spent(account)),
    heldUsd: formatUsd(book.heldByAll(account)),
    remainingUsd: formatUsd(remainingOf(book, account)),
    resetsAt: rfc3339(account.window.end),
  }
}

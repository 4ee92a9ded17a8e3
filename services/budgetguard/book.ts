// The book of one process: accounts, the slices of them it may spend, and the holds open on them.
//
// The database is the book of all processes; there `settled + granted ≤ limit` for every account, always. `granted` is
// what processes have taken as slices and not yet spent on the database's books. This book promises the other half:
// what is held here, plus what is settled here but not folded into the database yet, never exceeds the slice. Together:
//   settled everywhere + open holds everywhere ≤ limit, at every admission, without asking anyone.
//
// A hold is placed on all accounts of a call in one synchronous step, or on none. Its states:
//   open → settled (the actual cost; the rest is free again)
//        → released (nothing was sent, or nothing was billed)
//        → reaped (its owner died or its deadline passed; booked by policy)
// Exactly one end; a second one finds no hold and is reported as null.
//
// Amounts are nano-dollars. Times are monotonic milliseconds.

import { mulDiv } from '#platform/money'
import { most, notNegative } from './amount.ts'
import { onePpm } from './price.ts'
import type { Period, Window } from './window.ts'

/** What the database said last about an account. */
export interface Central {
  limit: bigint
  settled: bigint
  granted: bigint
}

export interface Account {
  readonly id: bigint
  readonly budgetId: number
  readonly tenantId: number
  /** For people: "tenant acme". */
  readonly scope: string
  readonly period: Period
  readonly window: Window
  central: Central
  /** Granted to this process and not yet folded as spent. */
  slice: bigint
  /** Settled here, not yet folded into `central.settled`. */
  unfolded: bigint
  /** Sum of the holds open here. */
  held: bigint
  /** The slice may be spent until then; later only what is already held may settle. */
  usableUntilMs: number
  touchedMs: number
}

export interface HoldPart {
  accountId: bigint
  /** What the budget sees of a cost. */
  weightPpm: bigint
  amount: bigint
}

export interface Hold {
  id: string
  /** The bound of the call's cost, before weights. */
  amount: bigint
  parts: readonly HoldPart[]
  openedMs: number
  /** Past this the reaper ends it: the call's own timeout plus a margin. */
  deadlineMs: number
}

export interface Shortfall {
  account: Account
  /** How much the slice must grow for the hold to fit. */
  missing: bigint
}

export interface EndedPart {
  accountId: bigint
  held: bigint
  settled: bigint
}

export interface Ended {
  hold: Hold
  parts: EndedPart[]
}

export class Book {
  readonly #accounts = new Map<bigint, Account>()
  readonly #byWindow = new Map<string, Account>()
  readonly #holds = new Map<string, Hold>()
  #heldNano = 0n

  addAccount(o: Pick<Account, 'id' | 'budgetId' | 'tenantId' | 'scope' | 'period' | 'window' | 'central'>): Account {
    const known = this.#accounts.get(o.id)
    if (known) {
      known.central = o.central
      return known
    }
    const account: Account = { ...o, slice: 0n, unfolded: 0n, held: 0n, usableUntilMs: 0, touchedMs: 0 }
    this.#accounts.set(o.id, account)
    this.#byWindow.set(windowKey(o.budgetId, o.window.start), account)
    return account
  }

  /** Only when it holds no money of ours. */
  forget(account: Account): boolean {
    if (account.held !== 0n || account.unfolded !== 0n || account.slice !== 0n) return false
    this.#accounts.delete(account.id)
    this.#byWindow.delete(windowKey(account.budgetId, account.window.start))
    return true
  }

  account(id: bigint): Account | undefined {
    return this.#accounts.get(id)
  }

  accountOf(budgetId: number, windowStart: number): Account | undefined {
    return this.#byWindow.get(windowKey(budgetId, windowStart))
  }

  accounts(): Iterable<Account> {
    return this.#accounts.values()
  }

  holds(): Iterable<Hold> {
    return this.#holds.values()
  }

  get openHolds(): number {
    return this.#holds.size
  }

  get heldNano(): bigint {
    return this.#heldNano
  }

  /** What a new hold could take from the slice right now. */
  free(account: Account, nowMs: number): bigint {
    if (nowMs >= account.usableUntilMs) return 0n
    return notNegative(account.slice - account.unfolded - account.held)
  }

  /** Everything that is, or may become, spent in this window as far as this process knows. */
  spent(account: Account): bigint {
    return account.central.settled + account.unfolded
  }

  isSpent(account: Account): boolean {
    return this.spent(account) >= account.central.limit
  }

  /** Held by everyone: our open holds, and whatever other processes were granted and may be holding. */
  heldByAll(account: Account): bigint {
    return account.held + notNegative(account.central.granted - account.slice)
  }

  /** Holds on every part, or says for each short account how much its slice lacks. One step: nothing interleaves. */
  place(hold: Hold, nowMs: number): Shortfall[] | null {
    const short: Shortfall[] = []
    for (const { accountId, amount } of hold.parts) {
      const account = this.#mustAccount(accountId)
      const missing = this.#missing(account, amount, nowMs)
      if (missing > 0n) short.push({ account, missing })
    }
    if (short.length > 0) return short
    if (this.#holds.has(hold.id)) throw new Error(`BUG: hold ${hold.id} is placed twice`)
    for (const { accountId, amount } of hold.parts) {
      const account = this.#mustAccount(accountId)
      account.held += amount
      account.touchedMs = nowMs
    }
    this.#holds.set(hold.id, hold)
    this.#heldNano += hold.amount
    return null
  }

  /**
   * Ends a hold with what the call cost; null when it has already ended. The cost may exceed the hold (a provider that
   * breaks its limit): it is booked in full all the same.
   */
  end(holdId: string, actual: bigint, nowMs: number): Ended | null {
    const hold = this.#holds.get(holdId)
    if (!hold) return null
    this.#holds.delete(holdId)
    this.#heldNano -= hold.amount
    const parts = hold.parts.map(part => {
      const account = this.#mustAccount(part.accountId)
      const settled = weighted(actual, part.weightPpm)
      account.held -= part.amount
      account.unfolded += settled
      account.touchedMs = nowMs
      return { accountId: part.accountId, held: part.amount, settled }
    })
    return { hold, parts }
  }

  /** The database gave more of the account to this process. */
  granted(account: Account, amount: bigint, o: { usableUntilMs: number; nowMs: number }): void {
    account.slice += amount
    account.usableUntilMs = o.usableUntilMs
    account.touchedMs = o.nowMs
  }

  renewed(account: Account, usableUntilMs: number): void {
    account.usableUntilMs = usableUntilMs
  }

  /** Takes the unused part out of the slice, to be given back to the database. */
  takeUnused(account: Account): bigint {
    const unused = notNegative(account.slice - account.unfolded - account.held)
    account.slice -= unused
    return unused
  }

  /** The database's word on our slice, after an answer of it was lost. Only while no fold is under way. */
  resync(account: Account, slice: bigint, central: Central): void {
    account.slice = slice
    account.central = central
  }

  /** What we settled has reached the database: it now counts there, and the slice shrank by what it consumed. */
  folded(accountId: bigint, o: { settled: bigint; consumed: bigint; central: Central | null }): void {
    const account = this.#accounts.get(accountId)
    if (!account) return
    account.unfolded -= o.settled
    account.slice -= o.consumed
    account.central = o.central ?? account.central
  }

  overdue(nowMs: number): Hold[] {
    return [...this.#holds.values()].filter(hold => hold.deadlineMs <= nowMs)
  }

  #missing(account: Account, amount: bigint, nowMs: number): bigint {
    // A free call still needs a budget that is not spent, but no slice.
    if (amount === 0n) return 0n
    const unspent = account.slice - account.unfolded - account.held
    return nowMs >= account.usableUntilMs ? most(amount - unspent, 1n) : amount - unspent
  }

  #mustAccount(id: bigint): Account {
    const account = this.#accounts.get(id)
    if (!account) throw new Error(`BUG: account ${id} is not in the book`)
    return account
  }
}

/** What a budget sees of an amount; upward, so that a weight never loses money. */
export function weighted(amount: bigint, weightPpm: bigint): bigint {
  return weightPpm === onePpm ? amount : mulDiv(amount, weightPpm, onePpm, 'ceil')
}

function windowKey(budgetId: number, windowStart: number): string {
  return `${budgetId}/${windowStart}`
}

// Slices: money taken from accounts in the database, so that calls can be admitted here without asking it.
//
//   none → active (granted; renewed every 10 s, not spent from in its last 2 s)
//        → returned in part or whole (idle for 1 s, recalled by another process, budget changed, shutdown)
//        → closed (returned wholly, at shutdown or by the process's next life)
//   An active slice that nobody renews is frozen by whoever notices: nobody spends it until its owner is back.
//
// All of this runs one transaction at a time, and many waiting calls share one. When an answer is lost, the accounts
// concerned are unsure: before they are asked for more, the slice is read back from the database.

import { isUnavailable, type Sql, subscribe } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import { least, most, notNegative } from '../amount.ts'
import type { Account, Book, Central, Shortfall } from '../book.ts'
import type { GrantRequest } from '../slice.ts'
import {
  type AccountKey,
  closeLeases,
  freezeExpired,
  grantSlices,
  leaseTtlS,
  loadCentral,
  loadSlices,
  type NodeLife,
  openAccounts,
  renewLeases,
  returnSlices,
} from '../store/accounts.ts'
import { touchNode } from '../store/nodes.ts'
import type { Serial } from './serial.ts'
import { createSerial } from './serial.ts'

/** A call that did not fit the slices at hand. */
export interface Want {
  accounts: readonly Account[]
  /** What it would hold, and the least it would make do with. */
  amount: bigint
  least: bigint
  /** Tries again, in one step: null when it is placed. */
  place(): Shortfall[] | null
}

export interface Leases {
  /** Puts the accounts of these windows into the book, made in the database when they are new. */
  openAccounts(tenantId: number, keys: readonly AccountKey[], describe: Describe): Promise<void>
  /** Null when placed; otherwise what is short with nothing left to get. Throws when the database is away. */
  obtain(want: Want): Promise<Shortfall[] | null>
  /** Limits may have changed: reads the accounts again and returns what is not held. */
  refresh(): Promise<void>
  /** Reads these accounts again, for showing them. */
  look(accounts: readonly Account[]): Promise<void>
  /** After a fold whose answer was lost. */
  distrust(accountIds: Iterable<bigint>): void
  readonly openNano: bigint
  /** Returns everything and ends the life. No hold may be open and nothing unfolded. */
  close(o: { isSettled: boolean }): Promise<void>
}

export type Describe = (key: AccountKey) => Pick<Account, 'tenantId' | 'scope' | 'period'>

/** Unused for this long, a slice goes back. */
const idleMs = 1_000
const renewEveryMs = 10_000
/** The owner stops spending this long before the database would call the slice expired. */
const expiryMarginMs = 2_000
const tickMs = 500
/** How long a call waits for other processes to return what they do not use. */
const recallWaitMs = 250
const recallPollMs = 25
/** The first grant covers this many calls like the one that asked. */
const firstGrantCalls = 16n
/** A grant aims at this much of the spend seen since the last one. */
const grantAimMs = 10_000n
/** Closed windows leave the book after that. */
const forgetAfterMs = 60_000
const recallChannel = 'budgetguard_recall'
/** Longest one database step may take before its callers are told to try again. */
const stepTimeoutMs = 5_000

interface Waiter {
  want: Want
  resolve(short: Shortfall[] | null): void
  reject(error: unknown): void
  recallUntilMs: number | null
}

export async function openLeases(o: {
  sql: Sql
  book: Book
  node: NodeLife
  log: Logger
  clock: Clock
  foldSerial: Serial
  observe: { acquired(seconds: number): void; recalled(): void; frozen(count: number): void }
}): Promise<Leases> {
  const { sql, book, node, log, clock, observe } = o
  const serial = createSerial()
  const waiters: Waiter[] = []
  const unsure = new Set<bigint>()
  const opening = new Map<string, Promise<void>>()
  const lastGrants = new Map<bigint, { atMs: number; amount: bigint }>()
  const closing = new AbortController()
  let pumping: Promise<void> | undefined
  let renewAtMs = clock.monotonicMs() + renewEveryMs

  const usableUntil = (askedMs: number) => askedMs + leaseTtlS * 1_000 - expiryMarginMs

  // --- getting more --------------------------------------------------------------------------------------------

  const pump = async () => {
    while (waiters.length > 0) {
      const batch = waiters.splice(0)
      try {
        await withDeadline(serial.run(() => grant(batch.map(waiter => waiter.want))))
      } catch (error) {
        for (const waiter of batch) waiter.reject(error)
        continue
      }
      const again: Waiter[] = []
      for (const waiter of batch) {
        const short = waiter.want.place()
        if (short === null) waiter.resolve(null)
        else if (mayGetMore(short) || (await mayRecall(waiter, short))) again.push(waiter)
        else waiter.resolve(short)
      }
      waiters.unshift(...again)
      if (again.some(waiter => waiter.recallUntilMs !== null)) await sleep(recallPollMs)
    }
    pumping = undefined
  }

  /** Somebody of the same batch took it first, and the database had more than was asked for. */
  const mayGetMore = (short: readonly Shortfall[]) =>
    short.every(({ account, missing }) => remaining(account.central) >= missing)

  /** Others were granted money of every short account: ask for it once, and wait a moment for it. */
  const mayRecall = async (waiter: Waiter, short: readonly Shortfall[]): Promise<boolean> => {
    const others = short.filter(({ account }) => account.central.granted > account.slice)
    if (others.length < short.length) return false
    const nowMs = clock.monotonicMs()
    if (waiter.recallUntilMs === null) {
      waiter.recallUntilMs = nowMs + recallWaitMs
      observe.recalled()
      const ids = others.map(({ account }) => account.id).join(',')
      await sql.notify(recallChannel, `${node.id} ${ids}`).catch(() => undefined)
    }
    return nowMs < waiter.recallUntilMs
  }

  const grant = async (wants: readonly Want[]) => {
    const ids = new Set(wants.flatMap(want => want.accounts.map(account => account.id)))
    await resync([...ids].filter(id => unsure.has(id)))
    // A slice that the database's absence let expire is still ours: nobody else may spend it, so take it up again.
    const beforeMs = clock.monotonicMs()
    if (wants.some(want => want.accounts.some(account => account.slice > 0n && beforeMs >= account.usableUntilMs)))
      await renewSlices()
    const requests = new Map<bigint, GrantRequest>()
    for (const id of ids) {
      const account = book.account(id)
      const request = account && requestFor(account, wants)
      if (request) requests.set(id, request)
    }
    if (requests.size === 0) return
    const askedMs = clock.monotonicMs()
    const granted = await sure([...requests.keys()], () => grantSlices(sql, node, requests))
    observe.acquired((clock.monotonicMs() - askedMs) / 1_000)
    for (const { accountId, amount, central } of granted) {
      const account = book.account(accountId)
      if (!account) continue
      account.central = central
      if (amount === 0n) continue
      book.granted(account, amount, { usableUntilMs: usableUntil(askedMs), nowMs: askedMs })
      lastGrants.set(accountId, { atMs: askedMs, amount })
    }
  }

  const requestFor = (account: Account, wants: readonly Want[]): GrantRequest | null => {
    const nowMs = clock.monotonicMs()
    const unspent = account.slice - account.unfolded - account.held
    const mine = wants.filter(want => want.accounts.includes(account))
    const wanted = mine.reduce((total, want) => total + want.amount, 0n) - unspent
    const smallest = mine.reduce((a, want) => least(a, want.least), mine[0]?.least ?? 0n) - unspent
    const isExpired = nowMs >= account.usableUntilMs
    if (wanted <= 0n && !isExpired) return null
    return { least: most(smallest, 1n), wanted: most(wanted, 1n), target: targetOf(account, wanted, nowMs) }
  }

  /** About ten seconds of what this process has been spending here. */
  const targetOf = (account: Account, wanted: bigint, nowMs: number): bigint => {
    const last = lastGrants.get(account.id)
    const first = notNegative(wanted) * firstGrantCalls
    if (!last) return first
    const elapsedMs = BigInt(Math.max(1, Math.round(nowMs - last.atMs)))
    return most(first, (last.amount * grantAimMs) / elapsedMs)
  }

  const resync = async (ids: readonly bigint[]) => {
    if (ids.length === 0) return
    await o.foldSerial.run(async () => {
      const slices = await loadSlices(sql, node, ids)
      const centrals = await loadCentral(sql, ids)
      for (const id of ids) {
        const account = book.account(id)
        const central = centrals.get(id)
        if (account && central) book.resync(account, slices.get(id) ?? 0n, central)
        unsure.delete(id)
      }
    })
  }

  /** What was asked may have happened although the answer was lost. */
  const sure = async <T>(ids: Iterable<bigint>, work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      for (const id of ids) unsure.add(id)
      throw error
    }
  }

  const readCentral = async (accounts: readonly Account[]) => {
    const centrals = await loadCentral(
      sql,
      accounts.map(account => account.id),
    )
    for (const account of accounts) account.central = centrals.get(account.id) ?? account.central
  }

  // --- giving back ---------------------------------------------------------------------------------------------

  const giveBack = (pick: (account: Account) => boolean): Promise<void> =>
    serial.run(async () => {
      const amounts = new Map<bigint, bigint>()
      for (const account of book.accounts()) {
        if (account.slice === 0n || unsure.has(account.id) || !pick(account)) continue
        const unused = book.takeUnused(account)
        if (unused > 0n) amounts.set(account.id, unused)
      }
      if (amounts.size === 0) return
      // From here on nobody here can spend it. If the answer is lost it stays granted until the account is resynced.
      const returned = await sure(amounts.keys(), () => returnSlices(sql, node, amounts))
      for (const { accountId, central } of returned) {
        const account = book.account(accountId)
        if (account) account.central = central
        lastGrants.delete(accountId)
      }
    })

  const renewSlices = async () => {
    const askedMs = clock.monotonicMs()
    const kept = await renewLeases(sql, node)
    for (const account of book.accounts()) if (kept.has(account.id)) book.renewed(account, usableUntil(askedMs))
  }

  const renew = () =>
    serial.run(async () => {
      await touchNode(sql, node.id)
      await renewSlices()
      const frozen = await freezeExpired(sql)
      if (frozen > 0) {
        observe.frozen(frozen)
        log.warn({ slices: frozen }, 'slices that nobody renewed are frozen until their process is started again')
      }
    })

  const forgetClosed = () => {
    const beforeMs = clock.now() - forgetAfterMs
    for (const account of book.accounts())
      if (account.window.end < beforeMs && !unsure.has(account.id)) book.forget(account)
  }

  const tick = async () => {
    const nowMs = clock.monotonicMs()
    if (nowMs >= renewAtMs) {
      await renew()
      renewAtMs = nowMs + renewEveryMs
      forgetClosed()
      await serial.run(() => resync([...unsure]))
    }
    await giveBack(account => account.held === 0n && nowMs - account.touchedMs >= idleMs)
  }

  const loop = async () => {
    while (!closing.signal.aborted) {
      await sleep(tickMs, closing.signal).catch(() => undefined)
      if (closing.signal.aborted) return
      await tick().catch((error: unknown) => {
        if (!isUnavailable(error)) log.error({ err: error }, 'slices could not be kept up; tried again')
      })
    }
  }
  const running = loop()

  const recalls = await subscribe(sql, recallChannel, payload => {
    const [from = '', ids = ''] = payload.split(' ')
    if (from === node.id) return
    const wanted = new Set(
      ids
        .split(',')
        .filter(id => /^\d{1,19}$/.test(id))
        .map(BigInt),
    )
    giveBack(account => wanted.has(account.id)).catch((error: unknown) => log.warn({ err: error }, 'a recall failed'))
  })

  return {
    async openAccounts(tenantId, keys, describe) {
      const missing = keys.filter(key => !book.accountOf(key.budgetId, key.windowStart))
      await Promise.all(
        missing.map(key => {
          const name = `${key.budgetId}/${key.windowStart}`
          const known = opening.get(name)
          if (known) return known
          const work = withDeadline(openAccounts(sql, tenantId, [key]))
            .then(accounts => {
              for (const { id, central } of accounts)
                book.addAccount({
                  id,
                  budgetId: key.budgetId,
                  window: { start: key.windowStart, end: key.windowEnd },
                  central,
                  ...describe(key),
                })
            })
            .finally(() => opening.delete(name))
          opening.set(name, work)
          return work
        }),
      )
    },

    obtain: want =>
      new Promise((resolve, reject) => {
        waiters.push({ want, resolve, reject, recallUntilMs: null })
        pumping ??= pump()
      }),

    async refresh() {
      await serial.run(() => o.foldSerial.run(() => readCentral([...book.accounts()])))
      await giveBack(() => true)
    },

    look: accounts => o.foldSerial.run(() => readCentral(accounts)),

    distrust(accountIds) {
      for (const id of accountIds) unsure.add(id)
    },

    get openNano() {
      let total = 0n
      for (const account of book.accounts()) total += account.slice
      return total
    },

    async close({ isSettled }) {
      closing.abort()
      await recalls.close()
      await running
      await pumping
      if (isSettled) await serial.run(() => closeLeases(sql, node.id, { beforeFence: node.fence + 1n }))
      else await giveBack(() => true)
    },
  }
}

function remaining(central: Central): bigint {
  return notNegative(central.limit - central.settled - central.granted)
}

async function withDeadline<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the database did not answer within ${stepTimeoutMs} ms`)), stepTimeoutMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

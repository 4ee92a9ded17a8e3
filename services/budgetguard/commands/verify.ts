// budgetguard verify-ledger, budgetguard rebuild-counters [--check]: the books, recomputed from the ledger.

import type { Base } from '#platform/lifecycle'
import { formatUsd } from '#platform/money'
import type { Config } from '../config.ts'
import { lockTenant } from '../store/accounts.ts'
import {
  countAccounts,
  countUnbalancedRows,
  findCrookedAccounts,
  hasAppendOnlyTriggers,
  straightenAccount,
} from '../store/ledger.ts'
import { withDatabase } from './database.ts'

const checkFailed = 3

export async function verifyLedger(config: Config, base: Base): Promise<number> {
  return withDatabase(config, base, async sql => {
    const isGuarded = await hasAppendOnlyTriggers(sql)
    const unbalanced = await countUnbalancedRows(sql)
    const crooked = await findCrookedAccounts(sql)
    const accounts = await countAccounts(sql)
    const say = (text: string) => process.stdout.write(`${text}\n`)
    say(`append-only triggers   ${isGuarded ? 'in place' : 'MISSING on some partition'}`)
    say(`rows out of balance    ${unbalanced}`)
    say(`accounts = ledger      ${accounts - crooked.length} of ${accounts}`)
    say('seals                  none: this release does not chain rows yet')
    for (const account of crooked)
      say(
        `  account ${account.id} (budget ${account.budgetId}): ${formatUsd(account.settled)} booked, ledger ${formatUsd(account.ledger)}`,
      )
    return isGuarded && unbalanced === 0 && crooked.length === 0 ? 0 : checkFailed
  })
}

export async function rebuildCounters(args: readonly string[], config: Config, base: Base): Promise<number> {
  const isCheck = args.includes('--check')
  return withDatabase(config, base, async sql => {
    const crooked = await findCrookedAccounts(sql)
    for (const account of crooked) {
      process.stdout.write(
        `account ${account.id}: ${formatUsd(account.settled)} -> ${formatUsd(account.ledger)}${isCheck ? ' (not changed)' : ''}\n`,
      )
      if (isCheck) continue
      await sql.begin(async tx => {
        // Keeps the fold out: it holds this lock, shared, while it moves a row and its accounts.
        await lockTenant(tx, account.tenantId)
        await straightenAccount(tx, account.id)
      })
    }
    process.stdout.write(`${crooked.length} of ${await countAccounts(sql)} accounts differ from the ledger\n`)
    return isCheck && crooked.length > 0 ? checkFailed : 0
  })
}

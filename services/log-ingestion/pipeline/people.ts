// Users, what is said about keys, and the secret of tokens: opened once the database is there, and tried again until it
// works. Keys that an older instance writes into public.api_keys are taken over every two seconds while both run.

import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Tenancy } from '#platform/tenancy/tenancy'
import { writeScopes } from '../access/directory.ts'
import { type ApiKeys, openApiKeys } from '../store/api-keys.ts'
import { type Faults, openFaults } from '../store/faults.ts'
import { agreesOnSecret, loadSharedSecret, openUsers, type Users } from '../store/users.ts'

export interface People {
  /** The database is there: begin. */
  connect(parts: { reads: Sql; tenancy: Tenancy }): Promise<void>
  /** Undefined until it worked once. */
  readonly open: OpenPeople | undefined
  /** One look at public.api_keys at once. */
  round(): Promise<void>
  /** What an operator should do when there is time; undefined: nothing. */
  readonly notice: string | undefined
  close(): Promise<void>
}

export interface OpenPeople {
  users: Users
  apiKeys: ApiKeys
  faults: Faults
  jwtSecret: Buffer
}

const everyMs = 2_000
const foreignSecret =
  'PURSER_SECRET differs from that of the replica that came first: keys made there are unknown here; give all replicas the same'

export function createPeople(o: {
  /** Of the configuration; otherwise one is made and kept in the database. */
  jwtSecret: string | undefined
  /** Derived from PURSER_SECRET: equal on all replicas, or keys made on one are unknown on another. */
  secretMark: Buffer
  onOpen: (jwtSecret: Buffer) => void
  log: Logger
}): People {
  let database: { reads: Sql; tenancy: Tenancy } | undefined
  let open: OpenPeople | undefined
  let plainKeys = 0
  let isSecretForeign = false
  let running: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let isClosed = false
  let lastProblem: string | undefined

  const openAll = async ({ reads, tenancy }: { reads: Sql; tenancy: Tenancy }): Promise<OpenPeople> => {
    const jwtSecret = o.jwtSecret === undefined ? await loadSharedSecret(reads, 'jwt') : Buffer.from(o.jwtSecret)
    const publicTenantId = tenancy.tenants.bySlug('public')?.id
    if (publicTenantId === undefined) throw new Error('BUG: there is no tenant public')
    const users = await openUsers(reads)
    const apiKeys = await openApiKeys(reads, tenancy, { publicTenantId, scopes: writeScopes })
    return { users, apiKeys, jwtSecret, faults: await openFaults(reads) }
  }

  const work = async () => {
    if (!database || isClosed) return
    if (!open) {
      const opened = await openAll(database)
      isSecretForeign = !(await agreesOnSecret(database.reads, o.secretMark))
      if (isSecretForeign) o.log.error(foreignSecret)
      await opened.apiKeys.adopt()
      open = opened
      o.onOpen(opened.jwtSecret)
    } else if (open.apiKeys.isLegacy) await open.apiKeys.adopt()
    plainKeys = await open.apiKeys.countPlain()
    lastProblem = undefined
  }
  const round = () => {
    running ??= work().finally(() => {
      running = undefined
    })
    return running
  }
  const tryRound = () =>
    round().catch(error => {
      const problem = error instanceof Error ? error.message : String(error)
      if (!isClosed && problem !== lastProblem)
        o.log.warn({ err: error }, 'users and keys could not be read; it is tried again')
      lastProblem = problem
    })

  return {
    async connect(parts) {
      database = parts
      await tryRound()
      timer ??= setInterval(() => {
        if (!open || open.apiKeys.isLegacy) void tryRound()
      }, everyMs).unref()
    },
    get open() {
      return open
    },
    round,
    get notice() {
      if (isSecretForeign) return foreignSecret
      if (plainKeys === 0) return undefined
      return `${plainKeys} keys are readable in public.api_keys: purser logs keys seal, once no older instance runs`
    },
    async close() {
      isClosed = true
      clearInterval(timer)
      await running?.catch(() => {})
    },
  }
}

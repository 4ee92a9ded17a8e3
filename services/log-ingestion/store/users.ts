// People who sign in. An older installation's public.users is used as it is; otherwise purser_logs.users.

import { randomBytes } from 'node:crypto'
import { errorCode, type Queryable, type Sql } from '#platform/postgres'

export interface User {
  id: number
  email: string
  name: string
  avatarUrl: string | null
  createdAt: Date
  isAdmin: boolean
  /** Slug. */
  tenant: string
  isPlatformAdmin: boolean
}

export interface NewUser {
  email: string
  name: string
  passwordHash: string
  isAdmin: boolean
  tenant?: string
}

export interface Users {
  /** With the stored bcrypt hash. The address is compared without case. */
  findByEmail(email: string): Promise<(User & { passwordHash: string }) | undefined>
  findById(id: number): Promise<User | undefined>
  /** Undefined when the address is taken. */
  add(user: NewUser): Promise<User | undefined>
  list(tenant: string): Promise<User[]>
}

const listMax = 10_000

export async function openUsers(sql: Sql): Promise<Users> {
  const table = await tableOf(sql, 'users')
  const from = () => sql`
    select u.id::int8 as id, u.email, u.name, u.avatar_url as "avatarUrl", u.created_at as "createdAt",
           u.password_hash as "passwordHash", coalesce(u.is_admin, false) as "isAdmin",
           coalesce(d.tenant, 'public') as tenant, coalesce(d.is_platform_admin, false) as "isPlatformAdmin"
    from ${sql(table)} u left join purser_logs.user_tenants d on d.user_id = u.id`
  const one = async (where: ReturnType<typeof from>): Promise<(User & { passwordHash: string }) | undefined> => {
    const [row] = await sql<Row[]>`${from()} where ${where} order by u.id limit 1`
    return row && userOf(row)
  }
  return {
    findByEmail: email => one(sql`lower(u.email) = ${email.toLowerCase()}`),
    async findById(id) {
      const found = await one(sql`u.id = ${id}`)
      return found && withoutHash(found)
    },
    async add(user) {
      try {
        const id = await sql.begin(async tx => {
          // Older tables may lack the unique index.
          await tx`select pg_advisory_xact_lock(hashtextextended('purser.logs.users', 0))`
          const [taken] = await tx`select 1 from ${tx(table)} where lower(email) = ${user.email.toLowerCase()}`
          if (taken) return undefined
          const [row] = await tx<{ id: bigint }[]>`
            insert into ${tx(table)} (email, name, password_hash, is_admin)
            values (${user.email.toLowerCase()}, ${user.name}, ${user.passwordHash}, ${user.isAdmin}) returning id::int8 as id`
          if (row && user.tenant !== undefined && user.tenant !== 'public')
            await tx`insert into purser_logs.user_tenants (user_id, tenant) values (${row.id}, ${user.tenant})`
          return row?.id
        })
        return id === undefined ? undefined : await one(sql`u.id = ${id}`).then(found => found && withoutHash(found))
      } catch (error) {
        if (errorCode(error) === '23505') return undefined
        throw error
      }
    },
    async list(tenant) {
      const rows = await sql<Row[]>`
        ${from()} where coalesce(d.tenant, 'public') = ${tenant} order by u.id limit ${listMax}`
      return rows.map(row => withoutHash(userOf(row)))
    },
  }
}

interface Row extends Omit<User, 'id'> {
  id: bigint
  passwordHash: string | null
}

function userOf(row: Row): User & { passwordHash: string } {
  return { ...row, id: Number(row.id), passwordHash: row.passwordHash ?? '' }
}

function withoutHash({ passwordHash: _, ...user }: User & { passwordHash: string }): User {
  return user
}

/** The guide's table when it is there, else ours. */
export async function tableOf(sql: Queryable, name: string): Promise<string> {
  const [row] = await sql<{ found: boolean }[]>`select to_regclass(${`public.${name}`}) is not null as found`
  return row?.found ? `public.${name}` : `purser_logs.${name}`
}

/** Whether this replica knows keys by the same root secret as the first one did; `mark` says nothing about the secret. */
export async function agreesOnSecret(sql: Queryable, mark: Buffer): Promise<boolean> {
  await sql`insert into purser_logs.secrets (name, value) values ('root secret mark', ${mark}) on conflict do nothing`
  const [row] = await sql<{ value: Buffer }[]>`select value from purser_logs.secrets where name = 'root secret mark'`
  return row === undefined || row.value.equals(mark)
}

/** A secret of the installation, made by whoever comes first. */
export async function loadSharedSecret(sql: Queryable, name: string): Promise<Buffer> {
  await sql`insert into purser_logs.secrets (name, value) values (${name}, ${randomBytes(32)}) on conflict do nothing`
  const [row] = await sql<{ value: Buffer }[]>`select value from purser_logs.secrets where name = ${name}`
  if (!row) throw new Error(`BUG: secret ${name} was written and is not there`)
  return row.value
}

// Faults, their notices, history and comments: in the tables of an older installation where they are, else in ours.
//
// Locks are taken in one order everywhere, fingerprints before faults, so that counting and merging never wait in a circle.

import { arrayLiteral, type Queryable, type Sql, type Tx } from '#platform/postgres'
import type { FaultTerm } from '../faults/fault-query.ts'
import { fingerprintOf, type Notice } from '../faults/notice.ts'
import { ulid } from '../faults/ulid.ts'
import { tableOf } from './users.ts'

export interface Fault {
  id: bigint
  projectId: bigint | null
  errorClass: string
  message: string
  location: string | null
  environment: string
  isResolved: boolean
  isIgnored: boolean
  assigneeId: bigint | null
  tags: string[]
  isPublic: boolean
  occurrences: bigint
  firstSeenAt: Date
  lastSeenAt: Date
  createdAt: Date
  updatedAt: Date
}

export interface StoredNotice {
  id: string
  faultId: bigint
  projectId: bigint | null
  message: string
  /** JSON of each column that has one. */
  details: Record<string, unknown>
  revision: string | null
  hostname: string | null
  createdAt: Date
}

export interface HistoryRow {
  id: bigint
  faultId: bigint
  action: string
  userId: bigint | null
  revision: string | null
  createdAt: Date
}

export interface CommentRow {
  id: bigint
  faultId: bigint
  userId: bigint
  comment: string
  createdAt: Date
}

/** What a change sets; absent members stay. */
export interface FaultPatch {
  isResolved?: boolean
  isIgnored?: boolean
  assigneeId?: bigint | null
  tags?: string[]
  isPublic?: boolean
}

export interface FaultStats {
  total: bigint
  first: Date
  last: Date
  lastHour: bigint
  lastDay: bigint
}

export interface Faults {
  record(
    tenant: string,
    notice: Notice,
    o: { clean: (value: object) => string; nowMs: number },
  ): Promise<{ id: string; faultId: bigint }>
  search(
    tenant: string,
    terms: readonly FaultTerm[],
    page: { limit: number; offset: number },
  ): Promise<{ faults: Fault[]; total: bigint }>
  find(tenant: string, id: bigint): Promise<Fault | undefined>
  /** `change` sees the fault as it is under its lock. One history row per action. Undefined: there is no such fault. */
  update(
    tenant: string,
    id: bigint,
    userId: bigint | null,
    change: (fault: Fault) => { patch: FaultPatch; actions: string[] },
  ): Promise<Fault | undefined>
  remove(tenant: string, id: bigint): Promise<boolean>
  /** Everything of `source` goes to `target`, later notices too. False: one of them is not there. */
  merge(tenant: string, source: bigint, target: bigint, userId: bigint | null): Promise<boolean>
  notices(id: bigint, page: { limit: number; offset: number }): Promise<StoredNotice[]>
  stats(fault: Fault): Promise<FaultStats>
  history(id: bigint): Promise<HistoryRow[]>
  comments(id: bigint): Promise<CommentRow[]>
  comment(id: bigint, userId: bigint, text: string): Promise<CommentRow>
}

const listMax = 1_000

export async function openFaults(sql: Sql): Promise<Faults> {
  const names = {
    faults: await tableOf(sql, 'faults'),
    notices: await tableOf(sql, 'notices'),
    history: await tableOf(sql, 'fault_history'),
    comments: await tableOf(sql, 'fault_comments'),
    users: await tableOf(sql, 'users'),
  }
  const types = new Map(
    (
      await sql<{ name: string; type: string }[]>`
        select attrelid::regclass::text || '.' || attname as name, format_type(atttypid, atttypmod) as type from pg_attribute
        where attrelid in (${names.faults}::regclass, ${names.notices}::regclass) and attnum > 0 and not attisdropped`
    ).map(row => [row.name.replace(/^(public|purser_logs)\./, ''), row.type]),
  )
  let hasTenant = types.has('faults.tenant')

  const ofTenant = (q: Queryable, tenant: string) => {
    if (hasTenant) return q`f.tenant is not distinct from ${tenant === 'public' ? null : tenant}`
    return tenant === 'public' ? q`true` : q`false`
  }
  /** The first of another tenant adds the column to an older table: a change of metadata only, NULL is the default tenant. */
  const admit = async (tenant: string) => {
    if (hasTenant || tenant === 'public') return
    await sql.begin(async tx => {
      await tx`select set_config('lock_timeout', '5s', true)`
      await tx`alter table ${tx(names.faults)} add column if not exists tenant text`
    })
    hasTenant = true
  }
  const columns = (q: Queryable) => q`
    f.id::int8 as id, f.project_id::int8 as "projectId", f.error_class as "errorClass", f.message, f.location, f.environment,
    f.resolved as "isResolved", f.ignored as "isIgnored", f.assignee_id::int8 as "assigneeId",
    coalesce(to_jsonb(f.tags), '[]') as tags, f.public as "isPublic", f.occurrence_count::int8 as occurrences,
    f.first_seen_at as "firstSeenAt", f.last_seen_at as "lastSeenAt", f.created_at as "createdAt", f.updated_at as "updatedAt"`
  const tagsValue = (q: Queryable, tags: readonly string[]) =>
    types.get('faults.tags') === 'jsonb'
      ? q`${JSON.stringify(tags)}::text::jsonb`
      : q`${arrayLiteral([...tags])}::text[]`
  const note = (tx: Tx, faultId: bigint, action: string, userId: bigint | null, revision: string | null = null) => tx`
    insert into ${tx(names.history)} (fault_id, action, user_id, revision) values (${faultId}, ${action}, ${userId}, ${revision})`

  /** The fault of a fingerprint, locked; made when it is the first. */
  const faultFor = async (tx: Tx, tenant: string, notice: Notice): Promise<Fault> => {
    const sha256 = fingerprintOf(tenant, notice)
    const known = async () => {
      const [row] = await tx<{ id: bigint }[]>`
        select fault_id as id from purser_logs.fault_fingerprints where tenant = ${tenant} and sha256 = ${sha256} for update`
      if (!row) return undefined
      const [fault] = await tx<
        Fault[]
      >`select ${columns(tx)} from ${tx(names.faults)} f where f.id = ${row.id} for update`
      return fault
    }
    const found = await known()
    if (found) return found
    // The first of its kind, or one whose fault somebody deleted: whoever is first makes it, the others find it.
    await tx`select pg_advisory_xact_lock(hashtextextended(${`purser.fault:${sha256.toString('hex')}`}, 0))`
    const meanwhile = await known()
    if (meanwhile) return meanwhile
    const { errorClass, location, environmentName } = notice
    const [older] = await tx<Fault[]>`
      select ${columns(tx)} from ${tx(names.faults)} f
      where ${ofTenant(tx, tenant)} and f.error_class = ${errorClass} and f.location is not distinct from ${location}
        and f.environment = ${environmentName}
        and not exists (select from purser_logs.fault_fingerprints p where p.fault_id = f.id)
      order by f.id limit 1 for update`
    const [made] = older
      ? [older]
      : await tx<Fault[]>`
          insert into ${tx(names.faults)} as f (error_class, message, location, environment, tags
            ${hasTenant ? tx`, tenant` : tx``})
          values (${errorClass}, ${notice.message}, ${location}, ${environmentName}, ${tagsValue(tx, [])}
            ${hasTenant ? tx`, ${tenant === 'public' ? null : tenant}` : tx``})
          returning ${columns(tx)}`
    if (!made) throw new Error('BUG: insert returned no row')
    await tx`
      insert into purser_logs.fault_fingerprints (tenant, sha256, fault_id) values (${tenant}, ${sha256}, ${made.id})
      on conflict (tenant, sha256) do update set fault_id = excluded.fault_id`
    return made
  }

  return {
    async record(tenant, notice, { clean, nowMs }) {
      await admit(tenant)
      const id = ulid(nowMs)
      const json = (value: object | undefined) => (value === undefined ? null : clean(value))
      return await sql.begin(async tx => {
        const fault = await faultFor(tx, tenant, notice)
        const tags = [...new Set([...fault.tags, ...notice.tags])]
        await tx`
          update ${tx(names.faults)} set occurrence_count = occurrence_count + 1, message = ${notice.message},
            last_seen_at = greatest(last_seen_at, now()), updated_at = now(), resolved = false, tags = ${tagsValue(tx, tags)}
          where id = ${fault.id}`
        if (fault.isResolved) await note(tx, fault.id, 'reopened', null, notice.revision ?? null)
        const environment =
          types.get('notices.environment') === 'jsonb' ? json(notice.environment) : notice.environmentName
        await tx`
          insert into ${tx(names.notices)}
            (id, fault_id, message, backtrace, context, params, session, cookies, environment, breadcrumbs, revision, hostname)
          values (${id}, ${fault.id}, ${notice.message}, ${json(notice.backtrace)}::text::jsonb,
            ${json(notice.context)}::text::jsonb, ${json(notice.params)}::text::jsonb, ${json(notice.session)}::text::jsonb,
            ${json(notice.cookies)}::text::jsonb,
            ${types.get('notices.environment') === 'jsonb' ? tx`${environment}::text::jsonb` : tx`${environment}`},
            ${json(notice.breadcrumbs)}::text::jsonb, ${notice.revision ?? null}, ${notice.hostname ?? null})`
        return { id, faultId: fault.id }
      })
    },

    async search(tenant, terms, { limit, offset }) {
      const where = (q: Queryable) =>
        terms.reduce(
          (sum, term) =>
            q`${sum} and ${term.isNegated ? q`not` : q``} coalesce(${matches(q, term, names.users)}, false)`,
          q`${ofTenant(q, tenant)}`,
        )
      const faults = await sql<Fault[]>`
        select ${columns(sql)} from ${sql(names.faults)} f where ${where(sql)}
        order by f.last_seen_at desc, f.id desc limit ${limit} offset ${offset}`
      const [row] = await sql<{ total: bigint }[]>`
        select count(*) as total from ${sql(names.faults)} f where ${where(sql)}`
      return { faults, total: row?.total ?? 0n }
    },

    async find(tenant, id) {
      const [fault] = await sql<Fault[]>`
        select ${columns(sql)} from ${sql(names.faults)} f where f.id = ${id} and ${ofTenant(sql, tenant)}`
      return fault
    },

    update: (tenant, id, userId, change) =>
      sql
        .begin(async tx => {
          const [fault] = await tx<Fault[]>`
            select ${columns(tx)} from ${tx(names.faults)} f where f.id = ${id} and ${ofTenant(tx, tenant)} for update`
          if (!fault) return { changed: undefined }
          const { patch, actions } = change(fault)
          const next = { ...fault, ...patch }
          const [changed] = await tx<Fault[]>`
            update ${tx(names.faults)} f set resolved = ${next.isResolved}, ignored = ${next.isIgnored},
              assignee_id = ${next.assigneeId}, tags = ${tagsValue(tx, next.tags)}, public = ${next.isPublic}, updated_at = now()
            where f.id = ${id} returning ${columns(tx)}`
          for (const action of actions) await note(tx, id, action, userId)
          return { changed }
        })
        .then(({ changed }) => changed),

    remove: (tenant, id) =>
      sql.begin(async tx => {
        await tx`delete from purser_logs.fault_fingerprints where fault_id = ${id}
                 and exists (select from ${tx(names.faults)} f where f.id = ${id} and ${ofTenant(tx, tenant)})`
        const [fault] = await tx`
          select 1 from ${tx(names.faults)} f where f.id = ${id} and ${ofTenant(tx, tenant)} for update`
        if (!fault) return false
        // Older tables may have no cascade.
        for (const name of [names.notices, names.history, names.comments])
          await tx`delete from ${tx(name)} where fault_id = ${id}`
        await tx`delete from ${tx(names.faults)} where id = ${id}`
        return true
      }),

    merge: (tenant, source, target, userId) =>
      sql.begin(async tx => {
        await tx`
          select 1 from purser_logs.fault_fingerprints where fault_id in (${source}, ${target})
          order by tenant, sha256 for update`
        const locked = await tx<Fault[]>`
          select ${columns(tx)} from ${tx(names.faults)} f
          where f.id in (${source}, ${target}) and ${ofTenant(tx, tenant)} order by f.id for update`
        const from = locked.find(fault => fault.id === source)
        const to = locked.find(fault => fault.id === target)
        if (!from || !to) return false
        // A fault of an older installation may have no fingerprint yet; its later notices go to the target all the same.
        const sha256 = fingerprintOf(tenant, {
          errorClass: from.errorClass,
          location: from.location ?? '',
          environmentName: from.environment,
        })
        await tx`
          insert into purser_logs.fault_fingerprints (tenant, sha256, fault_id) values (${tenant}, ${sha256}, ${target})
          on conflict do nothing`
        await tx`update purser_logs.fault_fingerprints set fault_id = ${target} where fault_id = ${source}`
        for (const name of [names.notices, names.history, names.comments])
          await tx`update ${tx(name)} set fault_id = ${target} where fault_id = ${source}`
        await tx`
          update ${tx(names.faults)} set occurrence_count = ${to.occurrences + from.occurrences},
            first_seen_at = (select min(first_seen_at) from ${tx(names.faults)} where id in (${source}, ${target})),
            last_seen_at = (select max(last_seen_at) from ${tx(names.faults)} where id in (${source}, ${target})),
            tags = ${tagsValue(tx, [...new Set([...to.tags, ...from.tags])])}, updated_at = now()
          where id = ${target}`
        await tx`delete from ${tx(names.faults)} where id = ${source}`
        await note(tx, target, 'merged', userId)
        return true
      }),

    notices: (id, { limit, offset }) => sql<StoredNotice[]>`
      select n.id::text as id, n.fault_id::int8 as "faultId", n.project_id::int8 as "projectId", n.message,
        jsonb_strip_nulls(jsonb_build_object('backtrace', n.backtrace, 'context', n.context, 'params', n.params,
          'session', n.session, 'cookies', n.cookies, 'environment', to_jsonb(n.environment), 'breadcrumbs', n.breadcrumbs))
          as details,
        n.revision, n.hostname, n.created_at as "createdAt"
      from ${sql(names.notices)} n where n.fault_id = ${id} order by n.created_at desc, n.id desc limit ${limit} offset ${offset}`,

    async stats(fault) {
      const [row] = await sql<{ first: Date | null; last: Date | null; hour: bigint; day: bigint }[]>`
        select min(created_at) as first, max(created_at) as last,
          count(*) filter (where created_at > now() - interval '1 hour') as hour,
          count(*) filter (where created_at > now() - interval '1 day') as day
        from ${sql(names.notices)} where fault_id = ${fault.id}`
      return {
        total: fault.occurrences,
        first: row?.first ?? fault.firstSeenAt,
        last: row?.last ?? fault.lastSeenAt,
        lastHour: row?.hour ?? 0n,
        lastDay: row?.day ?? 0n,
      }
    },

    history: id => sql<HistoryRow[]>`
      select id::int8 as id, fault_id::int8 as "faultId", action, user_id::int8 as "userId", revision, created_at as "createdAt"
      from ${sql(names.history)} where fault_id = ${id} order by created_at desc, id desc limit ${listMax}`,

    comments: id => sql<CommentRow[]>`
      select id::int8 as id, fault_id::int8 as "faultId", user_id::int8 as "userId", comment, created_at as "createdAt"
      from ${sql(names.comments)} where fault_id = ${id} order by created_at, id limit ${listMax}`,

    async comment(id, userId, text) {
      const [row] = await sql<CommentRow[]>`
        insert into ${sql(names.comments)} (fault_id, user_id, comment) values (${id}, ${userId}, ${text})
        returning id::int8 as id, fault_id::int8 as "faultId", user_id::int8 as "userId", comment, created_at as "createdAt"`
      if (!row) throw new Error('BUG: insert returned no row')
      return row
    },
  }
}

function matches(q: Queryable, term: FaultTerm, users: string) {
  switch (term.kind) {
    case 'resolved':
      return q`f.resolved`
    case 'ignored':
      return q`f.ignored`
    case 'environment':
      return q`lower(f.environment) = ${term.text.toLowerCase()}`
    case 'tag':
      return q`to_jsonb(f.tags) @> ${JSON.stringify([term.text])}::text::jsonb`
    case 'text': {
      // position() knows no wildcards.
      const text = term.text.toLowerCase()
      return q`(position(${text} in lower(f.error_class)) > 0 or position(${text} in lower(f.message)) > 0
                or position(${text} in lower(coalesce(f.location, ''))) > 0)`
    }
    case 'assignee':
      return term.userId === null ? q`f.assignee_id is null` : q`f.assignee_id = ${term.userId}`
    case 'assigneeEmail':
      return q`f.assignee_id in (select id from ${q(users)} where lower(email) = ${term.email})`
    case 'after':
      return q`f.last_seen_at >= ${new Date(term.timeMs).toISOString()}::timestamptz`
    case 'before':
      return q`f.last_seen_at < ${new Date(term.timeMs).toISOString()}::timestamptz`
    default:
      return term satisfies never
  }
}

import { arrayLiteral, type Queryable, type Sql } from '#platform/postgres'
import { giveUpAfterMs } from '../webhooks/backoff.ts'
import { deliveryId, type Message, messageBody, messageId } from '../webhooks/message.ts'

// Endpoints, and the outbox of what they are told.

export const webhooksChannel = 'billaged_webhooks'

export interface Endpoint {
  id: string
  customerId: string | null
  url: string
  description: string | null
  types: string[]
  secretVersion: number
  isEnabled: boolean
  /** A tenant's key set the address. */
  byTenant: boolean
  createdAt: Date
}

const endpointColumns = (sql: Queryable) => sql`
  id, customer_id as "customerId", url, description, types, secret_version as "secretVersion",
  is_enabled as "isEnabled", by_tenant as "byTenant", created_at as "createdAt"`

/** Puts a message into the outbox of every endpoint that wants it, in the transaction of what it tells. Telling it again
 *  is nothing. */
export async function announce(tx: Queryable, message: Message): Promise<void> {
  const id = messageId(message)
  const endpoints = await tx<{ id: string }[]>`
    select e.id from billaged.webhook_endpoint e
    where e.is_enabled and (cardinality(e.types) = 0 or ${message.type} = any (e.types))
      and (e.customer_id is null or e.customer_id = ${message.customerId})
      and not exists (select 1 from billaged.webhook_delivery d where d.endpoint_id = e.id and d.message_id = ${id})`
  for (const endpoint of endpoints) await insertDelivery(tx, endpoint.id, message)
}

export async function insertDelivery(tx: Queryable, endpointId: string, message: Message): Promise<string> {
  const id = deliveryId(endpointId, messageId(message))
  const at = new Date(message.atMs)
  await tx`
    insert into billaged.webhook_delivery
      (id, endpoint_id, message_id, type, customer_id, body, next_at, give_up_at, created_at)
    values (${id}, ${endpointId}, ${messageId(message)}, ${message.type}, ${message.customerId}, ${messageBody(message)},
      ${at}, ${new Date(message.atMs + giveUpAfterMs)}, ${at})
    on conflict do nothing`
  await tx`select pg_notify(${webhooksChannel}, '')`
  return id
}

export async function insertEndpoint(
  sql: Queryable,
  endpoint: Omit<Endpoint, 'secretVersion'>,
): Promise<Endpoint | 'no_such_customer'> {
  const { id, customerId, url, description, types, isEnabled, byTenant, createdAt } = endpoint
  const [row] = await sql<Endpoint[]>`
    insert into billaged.webhook_endpoint (id, customer_id, url, description, types, is_enabled, by_tenant, created_at)
    select ${id}, ${customerId}, ${url}, ${description}, ${arrayLiteral(types)}::text::text[], ${isEnabled}, ${byTenant},
      ${createdAt}
    where ${customerId}::text is null or exists (select 1 from billaged.customer where id = ${customerId})
    returning ${endpointColumns(sql)}`
  return row ?? 'no_such_customer'
}

export async function countEndpoints(sql: Sql, customerId: string | null): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int4 as count from billaged.webhook_endpoint where customer_id is not distinct from ${customerId}`
  return row?.count ?? 0
}

/** `only`: a customer's own. */
export async function listEndpoints(
  sql: Sql,
  o: { only: string | null; after: string; limit: number },
): Promise<Endpoint[]> {
  return sql<Endpoint[]>`
    select ${endpointColumns(sql)} from billaged.webhook_endpoint
    where id > ${o.after} and (${o.only}::text is null or customer_id = ${o.only}) order by id limit ${o.limit}`
}

export async function findEndpoint(sql: Sql, id: string): Promise<Endpoint | null> {
  const [row] = await sql<Endpoint[]>`select ${endpointColumns(sql)} from billaged.webhook_endpoint where id = ${id}`
  return row ?? null
}

export async function updateEndpoint(sql: Sql, endpoint: Endpoint): Promise<Endpoint | null> {
  const { id, url, description, types, secretVersion, isEnabled, byTenant } = endpoint
  const [row] = await sql<Endpoint[]>`
    update billaged.webhook_endpoint set url = ${url}, description = ${description},
      types = ${arrayLiteral(types)}::text::text[], secret_version = ${secretVersion}, is_enabled = ${isEnabled},
      by_tenant = ${byTenant}
    where id = ${id} returning ${endpointColumns(sql)}`
  await sql`select pg_notify(${webhooksChannel}, '')`
  return row ?? null
}

export async function deleteEndpoint(sql: Sql, id: string): Promise<void> {
  await sql`delete from billaged.webhook_endpoint where id = ${id}`
}

export interface Due {
  id: string
  messageId: string
  body: string
  /** This one included. */
  attempts: number
  endpointId: string
  url: string
  secretVersion: number
  byTenant: boolean
}

/** Takes one delivery that is due, of an endpoint that is not busy. It is due again after `claimMs`, should we die. */
export async function claimDelivery(
  sql: Sql,
  o: { nowMs: number; claimMs: number; busy: readonly string[] },
): Promise<Due | null> {
  const now = new Date(o.nowMs)
  const [row] = await sql<Due[]>`
    update billaged.webhook_delivery d set attempts = d.attempts + 1, next_at = ${new Date(o.nowMs + o.claimMs)}
    from billaged.webhook_endpoint e
    where e.id = d.endpoint_id and d.id = (
      select w.id from billaged.webhook_delivery w join billaged.webhook_endpoint on webhook_endpoint.id = w.endpoint_id
      where w.state = 'pending' and w.next_at <= ${now} and is_enabled
        and w.endpoint_id <> all (${arrayLiteral(o.busy)}::text::text[])
      order by w.next_at limit 1 for update of w skip locked)
    returning d.id, d.message_id as "messageId", d.body, d.attempts, e.id as "endpointId", e.url,
      e.secret_version as "secretVersion", e.by_tenant as "byTenant"`
  return row ?? null
}

export type DeliveryEnd =
  | { state: 'delivered'; status: number }
  /** Tried again then, unless that is too late: then it has failed. */
  | { state: 'retry'; status: number | null; problem: string; nextMs: number }

export async function endAttempt(sql: Sql, id: string, nowMs: number, end: DeliveryEnd): Promise<string | null> {
  const now = new Date(nowMs)
  const [row] =
    end.state === 'delivered'
      ? await sql<{ state: string }[]>`
          update billaged.webhook_delivery set state = 'delivered', last_status = ${end.status}, last_problem = null,
            ended_at = ${now} where id = ${id} returning state`
      : await sql<{ state: string }[]>`
          update billaged.webhook_delivery set
            state = case when ${new Date(end.nextMs)} > give_up_at then 'failed' else 'pending' end,
            ended_at = case when ${new Date(end.nextMs)} > give_up_at then ${now}::timestamptz end,
            next_at = ${new Date(end.nextMs)}, last_status = ${end.status}, last_problem = ${end.problem}
          where id = ${id} returning state`
  return row?.state ?? null
}

export interface DeliveryRow {
  id: string
  endpointId: string
  messageId: string
  type: string
  customerId: string | null
  body: string
  state: 'pending' | 'delivered' | 'failed'
  attempts: number
  nextAt: Date
  lastStatus: number | null
  lastProblem: string | null
  createdAt: Date
  endedAt: Date | null
}

/** Newest first. `only`: those of a customer's own endpoints. */
export async function listDeliveries(
  sql: Sql,
  o: {
    only: string | null
    endpointId: string | null
    state: string | null
    id: string | null
    before: { at: Date; id: string } | null
    limit: number
  },
): Promise<DeliveryRow[]> {
  return sql<DeliveryRow[]>`
    select d.id, d.endpoint_id as "endpointId", d.message_id as "messageId", d.type, d.customer_id as "customerId", d.body,
      d.state, d.attempts, d.next_at as "nextAt", d.last_status as "lastStatus", d.last_problem as "lastProblem",
      d.created_at as "createdAt", d.ended_at as "endedAt"
    from billaged.webhook_delivery d join billaged.webhook_endpoint e on e.id = d.endpoint_id
    where (${o.only}::text is null or e.customer_id = ${o.only})
      and (${o.endpointId}::text is null or e.id = ${o.endpointId})
      and (${o.state}::text is null or d.state = ${o.state})
      and (${o.id}::text is null or d.id = ${o.id})
      ${o.before === null ? sql`` : sql`and (d.created_at, d.id) < (${o.before.at}, ${o.before.id})`}
    order by d.created_at desc, d.id desc limit ${o.limit}`
}

/** Due at once, for another three days. */
export async function replayDelivery(sql: Sql, id: string, nowMs: number): Promise<void> {
  await sql`
    update billaged.webhook_delivery set state = 'pending', next_at = ${new Date(nowMs)}, ended_at = null,
      give_up_at = ${new Date(nowMs + giveUpAfterMs)} where id = ${id}`
  await sql`select pg_notify(${webhooksChannel}, '')`
}

/** Ended ones that nobody will ask about any more. Messages of a running period must outlive it: they are told once. */
export async function deleteOldDeliveries(sql: Sql, nowMs: number): Promise<void> {
  await sql`
    delete from billaged.webhook_delivery where id in (
      select id from billaged.webhook_delivery
      where state <> 'pending' and created_at < ${new Date(nowMs - keptMs)} limit 1000)`
}

const keptMs = 400 * 86_400_000

import { arrayLiteral, type Queryable, type Sql, type Tx } from '#platform/postgres'
import { builtInMeters, type Meter, validationError } from '../events/meter.ts'

export async function seedMeters(sql: Sql): Promise<void> {
  for (const meter of builtInMeters)
    await sql`
      insert into billaged.meter (slug, name, event_type, aggregation, value_paths, group_by, unit, is_built_in)
      values (${meter.slug}, ${meter.name}, ${meter.eventType}, ${meter.aggregation},
        ${JSON.stringify(meter.valuePaths)}::text::jsonb, ${JSON.stringify(meter.groupBy)}::text::jsonb, ${meter.unit}, true)
      on conflict do nothing`
}

export async function loadMeters(sql: Sql): Promise<Meter[]> {
  return sql<Meter[]>`
    select slug, name, event_type as "eventType", aggregation, value_paths as "valuePaths", group_by as "groupBy", unit,
      value_mode as "valueMode", event_from_ns as "eventFromNs"
    from billaged.meter order by slug`
}

/** A meter as its makers see it. */
export interface MeterRecord extends Meter {
  id: string
  description: string | null
  metadata: Record<string, string>
  isBuiltIn: boolean
  createdAt: Date
  updatedAt: Date
}

const recordColumns = (sql: Queryable) => sql`
  id, slug, name, description, event_type as "eventType", aggregation, value_paths as "valuePaths",
  group_by as "groupBy", unit, value_mode as "valueMode", event_from_ns as "eventFromNs", metadata,
  is_built_in as "isBuiltIn", created_at as "createdAt", updated_at as "updatedAt"`

export async function listMeterRecords(sql: Sql): Promise<MeterRecord[]> {
  return sql<MeterRecord[]>`select ${recordColumns(sql)} from billaged.meter order by created_at, slug`
}

/** By id or slug. */
export async function findMeterRecord(sql: Sql, idOrSlug: string): Promise<MeterRecord | null> {
  const [row] = await sql<MeterRecord[]>`
    select ${recordColumns(sql)} from billaged.meter where slug = ${idOrSlug} or id::text = ${idOrSlug}`
  return row ?? null
}

export type NewMeter = Pick<
  MeterRecord,
  'slug' | 'name' | 'description' | 'eventType' | 'aggregation' | 'valuePaths' | 'groupBy' | 'unit' | 'metadata'
> & { valueMode: 'set' | 'delta'; eventFromNs: bigint | null }

/** Null when the slug is taken. Events of its type that nothing metered before are looked at again. */
export async function insertMeter(sql: Sql, meter: NewMeter, channel: string): Promise<MeterRecord | null> {
  const made = await sql.begin(async tx => {
    const [row] = await tx<MeterRecord[]>`
      insert into billaged.meter (slug, name, description, event_type, aggregation, value_paths, group_by, unit,
        value_mode, event_from_ns, metadata)
      values (${meter.slug}, ${meter.name}, ${meter.description}, ${meter.eventType}, ${meter.aggregation},
        ${JSON.stringify(meter.valuePaths)}::text::jsonb, ${JSON.stringify(meter.groupBy)}::text::jsonb, ${meter.unit},
        ${meter.valueMode}, ${meter.eventFromNs}, ${JSON.stringify(meter.metadata)}::text::jsonb)
      on conflict (slug) do nothing returning ${recordColumns(tx)}`
    if (row !== undefined) await revalidate(tx, meter.eventType)
    await tx`select pg_notify(${channel}, '')`
    return { row }
  })
  return made.row ?? null
}

export async function updateMeter(
  sql: Sql,
  id: string,
  patch: Pick<NewMeter, 'name' | 'description' | 'groupBy' | 'metadata'>,
  channel: string,
): Promise<MeterRecord | null> {
  const [row] = await sql<MeterRecord[]>`
    update billaged.meter set name = ${patch.name}, description = ${patch.description},
      group_by = ${JSON.stringify(patch.groupBy)}::text::jsonb, metadata = ${JSON.stringify(patch.metadata)}::text::jsonb,
      updated_at = now()
    where id::text = ${id} returning ${recordColumns(sql)}`
  await sql`select pg_notify(${channel}, '')`
  return row ?? null
}

export async function deleteMeter(sql: Sql, id: string, channel: string): Promise<void> {
  await sql`delete from billaged.meter where id::text = ${id} and not is_built_in`
  await sql`select pg_notify(${channel}, '')`
}

/** Clears the errors of events that a meter takes now. Never sets one: what was metered before stays so. */
async function revalidate(tx: Tx, type: string): Promise<void> {
  const meters = await tx<Meter[]>`
    select slug, name, event_type as "eventType", aggregation, value_paths as "valuePaths", group_by as "groupBy", unit
    from billaged.meter where event_type = ${type}`
  const rows = tx<{ source: string; id: string; digest: Buffer; data: unknown; validationError: string }[]>`
    select source, id, digest, data, validation_error as "validationError" from billaged.usage_event
    where type = ${type} and validation_error is not null and customer_id is not null`.cursor(500)
  const cured: { source: string; id: string; digest: Buffer }[] = []
  for await (const page of rows)
    for (const row of page) if (validationError(meters, type, row.data) === null) cured.push(row)
  for (let i = 0; i < cured.length; i += 1_000) {
    const page = cured.slice(i, i + 1_000)
    await tx`
      update billaged.usage_event e set validation_error = null
      from unnest(${arrayLiteral(page.map(row => row.source))}::text::text[], ${arrayLiteral(page.map(row => row.id))}::text::text[],
        ${arrayLiteral(page.map(row => row.digest.toString('hex')))}::text::text[]) as c (source, id, digest)
      where e.source = c.source and e.id = c.id and e.digest = decode(c.digest, 'hex')`
  }
}

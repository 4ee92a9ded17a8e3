import type { Sql } from '#platform/postgres'
import { builtInMeters, type Meter } from '../events/meter.ts'

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
    select slug, name, event_type as "eventType", aggregation, value_paths as "valuePaths", group_by as "groupBy", unit
    from billaged.meter order by slug`
}

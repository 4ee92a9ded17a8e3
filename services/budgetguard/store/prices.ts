// Models and their dated prices.

import { mulDiv, parseUsd } from '#platform/money'
import type { Queryable, Sql, Tx } from '#platform/postgres'
import type { SeedModel } from '../guide-prices.ts'
import { onePpm } from '../price.ts'

export interface PriceWrite {
  input: bigint
  cacheRead: bigint
  output: bigint
  isFree: boolean
}

export interface ModelWrite extends PriceWrite {
  provider: string
  model: string
  versionTag: string
}

/** Rows the program brings along. What an operator changed stays. */
export async function seedModels(sql: Sql, seeds: readonly SeedModel[], source: 'guide' | 'built-in'): Promise<void> {
  await sql.begin(async tx => {
    const have = new Set((await tx<{ model: string }[]>`select model from budgetguard.models`).map(row => row.model))
    for (const seed of seeds.filter(({ model }) => !have.has(model))) {
      const [row] = await tx<{ id: number }[]>`
        insert into budgetguard.models (provider, model, version_tag, context_window, output_max)
        values (${seed.provider}, ${seed.model}, ${seed.versionTag}, ${BigInt(seed.contextWindow)}, ${BigInt(seed.outputMax)})
        on conflict (model) do nothing returning id`
      if (!row) continue
      const write = {
        input: parseUsd(seed.input),
        cacheRead: parseUsd(seed.cacheRead),
        output: parseUsd(seed.output),
        isFree: seed.isFree === true,
      }
      // Effective since ever: a seeded row is what a first start would have had.
      await insertPrice(tx, { id: row.id, provider: seed.provider }, write, { source, effectiveFrom: new Date(0) })
    }
  })
}

export async function createModel(tx: Tx, write: ModelWrite): Promise<number | null> {
  const [row] = await tx<{ id: number }[]>`
    insert into budgetguard.models (provider, model, version_tag)
    values (${write.provider}, ${write.model}, ${write.versionTag}) on conflict (model) do nothing returning id`
  if (!row) return null
  await insertPrice(tx, { id: row.id, provider: write.provider }, write, { source: 'operator', effectiveFrom: null })
  return row.id
}

/** A new dated price; the model's id stays. */
export async function changeModel(tx: Tx, id: number, write: ModelWrite): Promise<void> {
  await tx`
    update budgetguard.models set provider = ${write.provider}, model = ${write.model}, version_tag = ${write.versionTag},
      updated_at = now() where id = ${id}`
  await insertPrice(tx, { id, provider: write.provider }, write, { source: 'operator', effectiveFrom: null })
}

async function insertPrice(
  sql: Queryable,
  model: { id: number; provider: string },
  write: PriceWrite,
  o: { source: 'guide' | 'operator' | 'built-in'; effectiveFrom: Date | null },
): Promise<void> {
  const [write5m, write1h] = cacheWrites(model.provider, write.input)
  await sql`
    insert into budgetguard.prices (model_id, effective_from, input_nano, cache_read_nano, cache_write_5m_nano,
      cache_write_1h_nano, output_nano, is_free, source)
    values (${model.id}, coalesce(${o.effectiveFrom}::timestamptz, clock_timestamp()), ${write.input}, ${write.cacheRead}, ${write5m}, ${write1h},
      ${write.output}, ${write.isFree}, ${o.source})`
}

/** Anthropic bills writing to its cache: 1.25 × input for five minutes, 2 × for an hour. Others do not. */
function cacheWrites(provider: string, input: bigint): [bigint, bigint] {
  if (provider !== 'anthropic') return [input, input]
  return [mulDiv(input, 1_250_000n, onePpm, 'ceil'), input * 2n]
}

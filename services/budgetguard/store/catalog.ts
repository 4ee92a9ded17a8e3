// What every process keeps in memory: budgets, tenant settings, models and prices, read whole and swapped at once.

import type { Sql } from '#platform/postgres'
import { indexModels, type Model } from '../model.ts'
import type { Period, WindowRule } from '../window.ts'

export interface BudgetRule extends Omit<WindowRule, 'zone'> {
  id: number
  tenantId: number
  period: Period
  /** Null: the tenant's zone. */
  zone: string | null
  amount: bigint
  isImplicit: boolean
  isActive: boolean
  createdAtMs: number
}

export interface TenantSettings {
  /** Null: the configured default. */
  rateLimitPerMin: number | null
  defaultSessionBudget: bigint | null
  updatedAtMs: number
}

export interface Catalog {
  version: bigint
  /** Active ones, by tenant. */
  budgets: ReadonlyMap<number, readonly BudgetRule[]>
  budgetsById: ReadonlyMap<number, BudgetRule>
  settings: ReadonlyMap<number, TenantSettings>
  models: readonly Model[]
  modelByName: ReadonlyMap<string, Model>
}

export async function loadCatalog(sql: Sql): Promise<Catalog> {
  return sql.begin('isolation level repeatable read read only', async tx => {
    const [version] = await tx<{ version: bigint }[]>`select version from budgetguard.config_version`
    const budgetRows = await tx<BudgetColumns[]>`
      select id, tenant_id, period, anchor, tz, amount_nano, starts_at, ends_at, is_implicit, is_active, created_at
      from budgetguard.budgets where scope_type = 'tenant' and is_active order by tenant_id, id`
    const settings = await tx<
      { tenant_id: number; rate_limit_per_min: number | null; session: bigint | null; updated_at: Date }[]
    >`select tenant_id, rate_limit_per_min, default_session_budget_nano as session, updated_at from budgetguard.tenant_settings`
    const models = await tx<ModelColumns[]>`select * from budgetguard.models order by id`
    const prices = await tx<PriceColumns[]>`select * from budgetguard.prices order by effective_from desc, id desc`
    const rules = budgetRows.map(budgetRule)
    const list = models.map(row => model(row, prices))
    return {
      version: version?.version ?? 0n,
      budgets: Map.groupBy(rules, rule => rule.tenantId),
      budgetsById: new Map(rules.map(rule => [rule.id, rule])),
      settings: new Map(
        settings.map(row => [
          row.tenant_id,
          {
            rateLimitPerMin: row.rate_limit_per_min,
            defaultSessionBudget: row.session,
            updatedAtMs: row.updated_at.getTime(),
          },
        ]),
      ),
      models: list,
      modelByName: indexModels(list),
    }
  })
}

export async function findConfigVersion(sql: Sql): Promise<bigint> {
  const [row] = await sql<{ version: bigint }[]>`select version from budgetguard.config_version`
  return row?.version ?? 0n
}

export interface BudgetColumns {
  id: number
  tenant_id: number
  period: Period
  anchor: number
  tz: string | null
  amount_nano: bigint
  starts_at: Date | null
  ends_at: Date | null
  is_implicit: boolean
  is_active: boolean
  created_at: Date
}

export function budgetRule(row: BudgetColumns): BudgetRule {
  return {
    id: row.id,
    tenantId: row.tenant_id,
    period: row.period,
    anchor: row.anchor,
    zone: row.tz,
    amount: row.amount_nano,
    startsAt: row.starts_at?.getTime() ?? null,
    endsAt: row.ends_at?.getTime() ?? null,
    isImplicit: row.is_implicit,
    isActive: row.is_active,
    createdAtMs: row.created_at.getTime(),
  }
}

interface ModelColumns {
  id: number
  provider: string
  model: string
  version_tag: string
  context_window: bigint | null
  output_max: bigint | null
  image_tokens_max: bigint | null
  learned_ppm: bigint
  created_at: Date
  updated_at: Date
}

interface PriceColumns {
  id: number
  model_id: number
  effective_from: Date
  input_nano: bigint
  cache_read_nano: bigint
  cache_write_5m_nano: bigint
  cache_write_1h_nano: bigint
  output_nano: bigint
  is_free: boolean
  source: 'guide' | 'operator' | 'built-in'
}

function model(row: ModelColumns, prices: readonly PriceColumns[]): Model {
  return {
    id: row.id,
    provider: row.provider,
    model: row.model,
    versionTag: row.version_tag,
    facts: {
      contextWindow: row.context_window,
      outputMax: row.output_max,
      imageTokensMax: row.image_tokens_max,
      learnedPpm: row.learned_ppm,
    },
    prices: prices
      .filter(price => price.model_id === row.id)
      .map(price => ({
        id: price.id,
        provider: row.provider,
        model: row.model,
        versionTag: row.version_tag,
        perMillion: {
          input: price.input_nano,
          cacheRead: price.cache_read_nano,
          cacheWrite5m: price.cache_write_5m_nano,
          cacheWrite1h: price.cache_write_1h_nano,
          output: price.output_nano,
        },
        isFree: price.is_free,
        effectiveFromMs: price.effective_from.getTime(),
        source: price.source,
      })),
    createdAtMs: row.created_at.getTime(),
    updatedAtMs: row.updated_at.getTime(),
  }
}

// budgetguard seed: tenant, rate limit, budgets, prices, and one key. Run again it changes nothing.

import type { Base } from '#platform/lifecycle'
import type { Config } from '../config.ts'
import { echoModels, guideModels } from '../guide-prices.ts'
import { aiScope } from '../http/admin/keys.ts'
import { implicitBudgets } from '../implicit-budgets.ts'
import { syncImplicitBudgets } from '../store/budgets.ts'
import { seedModels } from '../store/prices.ts'
import { hasSettings, storeSettings } from '../store/settings.ts'
import { withDatabase } from './database.ts'
import { openStoresFor } from './migrate.ts'

export async function seed(config: Config, base: Base): Promise<number> {
  return withDatabase(config, base, async sql => {
    const tenancy = await openStoresFor(sql, config, base)
    try {
      const by = { kind: 'command' as const, name: 'seed' }
      const tenant = await tenancy.tenants.ensure(config.defaultTenant, by)
      if (!(await hasSettings(sql, tenant.id)))
        await storeSettings(sql, tenant.id, { rateLimitPerMin: config.requestsPerMinute })
      await syncImplicitBudgets(sql, [{ tenantId: tenant.id, implicit: implicitBudgets(config, tenant.timezone) }])
      await seedModels(sql, guideModels, 'guide')
      await seedModels(sql, echoModels, 'built-in')
      const keys = (await tenancy.keys.list(tenant.id)).filter(key => key.scopes.includes(aiScope))
      if (keys.length > 0) {
        process.stdout.write(`Tenant already has ${keys.length} API key(s), skipping creation\n`)
      } else if (config.defaultApiKey !== undefined) {
        process.stdout.write('DEFAULT_API_KEY is the key of this tenant for as long as it is set\n')
      } else {
        const created = await tenancy.keys.create(
          { tenantId: tenant.id, name: 'seed', scopes: [aiScope], format: 'hex64' },
          by,
        )
        process.stdout.write(`Created API key: ${created.key}\n`)
      }
      return 0
    } finally {
      await tenancy.close()
    }
  })
}

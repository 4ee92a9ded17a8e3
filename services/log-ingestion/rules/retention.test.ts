import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { StoredRule } from '../store/rules/rules.ts'
import { keepOf } from '../store/visibility.ts'
import { longestKeepMs, retentionRules } from './retention.ts'

const keep = fc.constantFrom('forever', '1h', '2d', '30d')
const name = fc.option(fc.constantFrom('a', 'b'), { nil: undefined })
const level = fc.option(fc.constantFrom('WARN', 'warning', 'ERROR'), { nil: undefined })
const rule = fc.record({ tenant: fc.constantFrom('t', 'u'), service: name, level, keep }).map(
  ({ tenant, ...definition }): StoredRule => ({
    id: 1n,
    tenant,
    name: '',
    definition: JSON.parse(JSON.stringify(definition)),
    createdBy: '',
    createdAt: new Date(0),
    updatedAt: new Date(0),
  }),
)
const msOf: Record<string, number | null> = { forever: null, '1h': 3_600_000, '2d': 172_800_000, '30d': 2_592_000_000 }
const plain = (text: string | undefined) => text?.toUpperCase().replace('WARNING', 'WARN')

test('the most specific rule wins: service and level, service, level, tenant, default', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(rule, { selector: r => JSON.stringify([r.tenant, at(r).service, plain(at(r).level)]) }),
      fc.constantFrom('a', 'b', 'c'),
      fc.constantFrom('WARN', 'WARNING', 'ERROR', 'INFO'),
      fc.constantFrom(null, 5_000),
      (stored, service, word, standard) => {
        const rules = retentionRules(standard, stored)
        const ours = rules.filter(r => r.tenant === null || r.tenant === 't')
        const find = (s: string | undefined, l: string | undefined) =>
          stored.find(r => r.tenant === 't' && at(r).service === s && plain(at(r).level) === l)
        const wanted =
          find(service, plain(word)) ??
          find(service, undefined) ??
          find(undefined, plain(word)) ??
          find(undefined, undefined)
        assert.equal(keepOf(ours, service, word), wanted ? msOf[at(wanted).keep] : standard)
        // Nothing that is kept is older than what the intake takes.
        const longest = longestKeepMs(rules, 't')
        const kept = keepOf(ours, service, word)
        assert.ok(longest === null || (kept !== null && kept <= longest))
      },
    ),
    { numRuns: 1_000 },
  )
})

function at({ definition }: StoredRule): { service?: string; level?: string; keep: string } {
  return definition as { service?: string; level?: string; keep: string }
}

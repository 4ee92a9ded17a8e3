import { useState } from 'react'
import { listMeters } from '../../api/billing-meters.ts'
import { listPlans, listVersions, type Plan, type PlanVersion } from '../../api/billing-plans.ts'
import { meterLabel, unitOfMeter } from '../../billing/meters.ts'
import { modelWords } from '../../billing/plan-form.ts'
import { useResource } from '../../live/use-resource.ts'
import { Choice } from '../../parts/choice.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { type BillingRoute, billingRoute } from '../../router/route.ts'
import { formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatDay } from '../../units/time.ts'
import { PlanEditor } from './plan-editor.tsx'
import { priceText } from './price-text.ts'
import { TierGraph } from './tier-graph.tsx'
import { WhatIf } from './what-if.tsx'

const policyWords: Record<PlanVersion['gapPolicy'], string> = {
  zero: 'Gaps are not billed',
  floor: 'Of gaps, what the counters prove is billed',
  interpolate: 'Gaps under ten minutes are billed as if measured',
}

export function PlanPage({ route }: { route: BillingRoute }) {
  const plans = useResource('plans', listPlans)
  const versions = useResource(`versions ${route.id}`, signal => listVersions(route.id, signal), 30_000)
  const plan = plans.data?.plans.find(({ id }) => id === route.id)
  return (
    <>
      <nav className="crumbs" aria-label="Where this is">
        <Link to={billingRoute('plans')}>Plans</Link>
        <Icon name="chevron" size={12} />
        <span>{route.id}</span>
      </nav>
      <section>
        <Loaded resource={versions} skeleton={<SkeletonRows rows={8} />}>
          {({ versions: list }) => (
            <Page
              plan={plan ?? { id: route.id, name: route.id, currency: 'USD', versions: list.length }}
              versions={list}
              reload={versions.reload}
            />
          )}
        </Loaded>
      </section>
    </>
  )
}

function Page({ plan, versions, reload }: { plan: Plan; versions: readonly PlanVersion[]; reload: () => void }) {
  const nowMs = Date.now()
  const inForce = versions.findLast(({ effectiveFrom }) => Date.parse(effectiveFrom) <= nowMs) ?? versions.at(-1)
  const [chosen, setChosen] = useState<number | null>(null)
  const [isEditing, setIsEditing] = useState(versions.length === 0)
  const meters = useResource('meters', listMeters)
  const unitOf = (meter: string) => meters.data?.find(({ slug }) => slug === meter)?.unit ?? unitOfMeter(meter)
  const shown = versions.find(({ version }) => version === chosen) ?? inForce
  return (
    <div className="customer-grid">
      <header className="page-head">
        <h2>{plan.id}</h2>
        <span className="quiet ellipsis">{plan.name}</span>
        <span className="chip">{plan.currency}</span>
        <div className="screen-actions">
          {!isEditing && versions.length > 1 && (
            <Choice
              label="Version"
              value={String(shown?.version ?? '')}
              options={versions.map(({ version }) => ({ value: String(version), label: `v${version}` }))}
              onChange={value => setChosen(Number(value))}
            />
          )}
          {!isEditing && (
            <button
              type="button"
              className="button primary"
              onClick={() => setIsEditing(true)}
              data-testid="new-version"
            >
              <Icon name="plus" size={14} />
              New version
            </button>
          )}
        </div>
      </header>
      {isEditing ? (
        <PlanEditor
          plan={plan}
          last={versions.at(-1)}
          meters={meters.data ?? []}
          onClose={() => setIsEditing(false)}
          onCreated={version => {
            setIsEditing(false)
            setChosen(version)
            reload()
          }}
        />
      ) : shown === undefined ? (
        <section className="panel">
          <Empty title="No version yet">Without one it prices nothing.</Empty>
        </section>
      ) : (
        <div className="plan-grid">
          <Version plan={plan} version={shown} isInForce={shown.version === inForce?.version} unitOf={unitOf} />
          <WhatIf
            title="What if everybody were on it"
            key={shown.version}
            plan={{ planId: plan.id }}
            currency={plan.currency}
          />
        </div>
      )}
    </div>
  )
}

function Version({
  plan,
  version,
  isInForce,
  unitOf,
}: {
  plan: Plan
  version: PlanVersion
  isInForce: boolean
  unitOf: (meter: string) => string
}) {
  const from = Date.parse(version.effectiveFrom)
  return (
    <Panel
      title={`Version ${version.version}`}
      aside={`from ${formatDay(from, 'UTC')} ${new Date(from).getUTCFullYear()}, ${
        isInForce ? 'in force' : from > Date.now() ? 'to come' : 'replaced'
      }`}
      testId="plan-version"
    >
      <p className="panel-note quiet">
        {policyWords[version.gapPolicy]}.
        {version.minimumNano !== '0' &&
          ` At least ${formatMoneyExact(nanoFrom(version.minimumNano), plan.currency)} per period.`}
        {version.unbilled.length > 0 && ` Measured and not billed: ${version.unbilled.join(', ')}.`} A version is never
        changed; a new one takes over from its hour on.
      </p>
      <ul className="prices">
        {version.prices.map(price => {
          const meter = price.model === 'flat' ? '' : price.meter
          const match = price.model === 'flat' ? {} : (price.match ?? {})
          return (
            <li key={price.id} data-testid="price">
              <div>
                <b>{meter === '' ? 'Flat fee' : meterLabel(meter)}</b> <code className="quiet">{price.id}</code>
                <span className="chip" title={modelWords[price.model].meaning}>
                  {modelWords[price.model].label.toLowerCase()}
                </span>
                {Object.entries(match).map(([name, value]) => (
                  <span key={name} className="chip">
                    {name}={value}
                  </span>
                ))}
                <p>{priceText(price, unitOf(meter), meter, plan.currency)}</p>
              </div>
              {price.model !== 'flat' && (
                <TierGraph price={price} unit={unitOf(meter)} meter={meter} currency={plan.currency} />
              )}
            </li>
          )
        })}
      </ul>
    </Panel>
  )
}

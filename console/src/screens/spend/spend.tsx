import './spend.css'
import { useState } from 'react'
import { useNow } from '../../live/clock.ts'
import { BudgetBar } from '../../parts/budget-bar.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { type Route, type SpendTab, spendTabs } from '../../router/route.ts'
import { formatMoney } from '../../units/money.ts'
import { formatRelative } from '../../units/time.ts'
import { type BudgetLine, type TenantBudgets, tightest } from './budget-line.ts'
import { useTenantBudgets } from './budgets.ts'
import { BudgetsTab } from './budgets-tab.tsx'
import { HoldsTab } from './holds-tab.tsx'
import { KeysTab } from './keys-tab.tsx'
import { LedgerTab } from './ledger-tab.tsx'
import { NewTenant } from './new-tenant.tsx'

type SpendRoute = Extract<Route, { screen: 'spend' }>

const tabLabels: Record<SpendTab, string> = { budgets: 'Budgets', ledger: 'Ledger', holds: 'Open holds', keys: 'Keys' }

export function Spend({ route }: { route: SpendRoute }) {
  const { resource, tenants, stream } = useTenantBudgets()
  const [isCreating, setIsCreating] = useState(false)
  return (
    <div className="screen spend">
      <header className="screen-head">
        <h1>Spend</h1>
        <div className="screen-actions">
          <LiveMark state={stream} />
          <button type="button" className="button primary" onClick={() => setIsCreating(true)} data-testid="new-tenant">
            <Icon name="plus" size={14} />
            New tenant
          </button>
        </div>
      </header>
      <Loaded resource={resource}>
        {loaded => {
          const list = tenants ?? loaded
          const chosen = list.find(({ tenant }) => tenant.id === route.tenant) ?? null
          return (
            <div className="split">
              <nav className="panel split-list" aria-label="Tenants" data-testid="tenant-list">
                <TenantLink
                  route={route}
                  id={null}
                  name="All tenants"
                  isHere={chosen === null}
                  line={null}
                  sum={list}
                />
                {list.map(({ tenant, budgets }) => (
                  <TenantLink
                    key={tenant.id}
                    route={route}
                    id={tenant.id}
                    name={tenant.displayName ?? tenant.name}
                    isHere={tenant.id === chosen?.tenant.id}
                    line={tightest(budgets)}
                  />
                ))}
              </nav>
              <div className="split-detail">
                <nav className="tab-bar" aria-label="Details">
                  {spendTabs.map(tab => (
                    <Link key={tab} to={{ ...route, tab }} aria-current={route.tab === tab ? 'page' : undefined}>
                      {tabLabels[tab]}
                    </Link>
                  ))}
                </nav>
                <Tab route={route} chosen={chosen} all={list} reload={resource.reload} />
              </div>
            </div>
          )
        }}
      </Loaded>
      {isCreating && <NewTenant onClose={() => setIsCreating(false)} onCreated={resource.reload} />}
    </div>
  )
}

interface TabProps {
  route: SpendRoute
  chosen: TenantBudgets | null
  all: readonly TenantBudgets[]
  reload: () => void
}

function Tab({ route, chosen, all, reload }: TabProps) {
  switch (route.tab) {
    case 'budgets':
      return <BudgetsTab shown={chosen ? [chosen] : all} reload={reload} />
    case 'ledger':
      return <LedgerTab key={chosen?.tenant.id ?? 'all'} tenantId={chosen?.tenant.id ?? null} />
    case 'holds':
      return <HoldsTab tenantId={chosen?.tenant.id ?? null} />
    case 'keys':
      return (
        <KeysTab
          key={chosen?.tenant.id ?? 'all'}
          tenant={chosen?.tenant ?? null}
          all={all.map(({ tenant }) => tenant)}
        />
      )
  }
}

interface TenantLinkProps {
  route: SpendRoute
  id: number | null
  name: string
  isHere: boolean
  line: BudgetLine | null
  sum?: readonly TenantBudgets[]
}

function TenantLink({ route, id, name, isHere, line, sum }: TenantLinkProps) {
  const nowMs = useNow()
  return (
    <Link to={{ ...route, tenant: id }} className="tenant-link" aria-current={isHere ? 'page' : undefined}>
      <span className="budget-name ellipsis">{name}</span>
      {sum && <span className="budget-amounts quiet">{sum.length}</span>}
      {line && (
        <>
          <span className="budget-amounts">
            <b>{formatMoney(line.spentNano)}</b> of {formatMoney(line.limitNano)}
          </span>
          <BudgetBar {...line} label={`${name}, ${line.period} budget`} />
          <span className="budget-meta quiet">{line.period}</span>
          <span className="budget-reset quiet">
            {line.resetsAtMs !== null && `resets ${formatRelative(line.resetsAtMs, nowMs)}`}
          </span>
        </>
      )}
    </Link>
  )
}

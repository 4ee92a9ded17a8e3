import type { Tenant } from '../../../../services/budgetguard/api.ts'
import './../spend/spend.css'
import { useNow } from '../../live/clock.ts'
import { BudgetBar, budgetState } from '../../parts/budget-bar.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { formatPercent } from '../../units/counts.ts'
import { formatMoney, formatMoneyExact, shareOf } from '../../units/money.ts'
import { formatRelative } from '../../units/time.ts'
import { type BudgetLine, type TenantBudgets, tightest } from '../spend/budget-line.ts'
import { useTenantBudgets } from '../spend/budgets.ts'

const shown = 7
const fewTenants = 3

/** Each tenant by the budget that would refuse it first. */
export function SpendPanel() {
  const { resource, tenants, stream } = useTenantBudgets()
  return (
    <Panel
      className="spend-panel"
      title={
        <Link to={{ screen: 'spend', tenant: null, tab: 'budgets' }}>
          Spend <Icon name="chevron" size={12} />
        </Link>
      }
      aside={tenants ? totalText(tenants) : undefined}
      actions={<LiveMark state={stream} />}
      testId="spend-panel"
    >
      <Loaded resource={resource}>
        {loaded => {
          const rows = byUse(tenants ?? loaded)
          if (rows.length === 0)
            return (
              <Empty title="No tenants yet">
                <Link to={{ screen: 'spend', tenant: null, tab: 'budgets' }}>Create the first one</Link>, give it a
                budget and a key.
              </Empty>
            )
          return (
            <>
              <ul className="budget-list">
                {rows.slice(0, shown).map(({ tenant, line }) => (
                  <li key={`${tenant.id} ${line?.budgetId} ${line?.period}`}>
                    <Link to={{ screen: 'spend', tenant: tenant.id, tab: 'budgets' }} className="budget-row">
                      <TenantBudget name={tenant.displayName ?? tenant.name} line={line} />
                    </Link>
                  </li>
                ))}
              </ul>
              {rows.length > shown && <p className="panel-more quiet">and {rows.length - shown} more</p>}
            </>
          )
        }}
      </Loaded>
    </Panel>
  )
}

function TenantBudget({ name, line }: { name: string; line: BudgetLine | null }) {
  const nowMs = useNow()
  if (!line)
    return (
      <>
        <span className="budget-name">{name}</span>
        <span className="budget-meta quiet">no budget: nothing limits it</span>
      </>
    )
  const state = budgetState(line)
  const used = shareOf(line.spentNano + line.heldNano, line.limitNano)
  return (
    <>
      <span className="budget-name ellipsis">
        {name} <em data-state={state}>{formatPercent(used)}</em>
      </span>
      <span
        className="budget-amounts"
        title={`${formatMoneyExact(line.spentNano)} of ${formatMoneyExact(line.limitNano)}`}
      >
        <b>{formatMoney(line.spentNano)}</b> of {formatMoney(line.limitNano)}
      </span>
      <BudgetBar {...line} label={`${name}, ${line.period} budget`} />
      <span className="budget-meta quiet ellipsis">
        {line.period}
        {line.heldNano > 0n && ` · ${formatMoney(line.heldNano)} held`}
      </span>
      <span className="budget-reset quiet">
        {line.resetsAtMs !== null && `resets ${formatRelative(line.resetsAtMs, nowMs)}`}
      </span>
    </>
  )
}

/** Few tenants: every budget. Many: each tenant by the one that would refuse it first. Most spent on top. */
function byUse(tenants: readonly TenantBudgets[]): { tenant: Tenant; line: BudgetLine | null }[] {
  const rows = tenants.flatMap(({ tenant, budgets }) =>
    tenants.length > fewTenants || budgets.length === 0
      ? [{ tenant, line: tightest(budgets) }]
      : budgets.map(line => ({ tenant, line })),
  )
  const spent = ({ line }: { line: BudgetLine | null }) => line?.spentNano ?? -1n
  return rows.sort((a, b) => (spent(a) === spent(b) ? 0 : spent(a) < spent(b) ? 1 : -1))
}

/** Spent in the running months; tenants without a monthly budget have no such sum here. */
function totalText(tenants: readonly TenantBudgets[]): string | undefined {
  const monthly = tenants.flatMap(({ budgets }) => budgets.filter(({ period }) => period === 'monthly'))
  if (monthly.length === 0) return undefined
  return `${formatMoney(monthly.reduce((sum, line) => sum + line.spentNano, 0n))} this month`
}

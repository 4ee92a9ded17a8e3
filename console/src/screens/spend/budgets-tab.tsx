import { useState } from 'react'
import { formatUsd } from '#platform/money'
import type { Period, Tenant } from '../../../../services/budgetguard/api.ts'
import { removeBudget, setBudget } from '../../api/budgetguard.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError } from '../../live/use-resource.ts'
import { BudgetBar, budgetState } from '../../parts/budget-bar.tsx'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { formatMoney, formatMoneyExact } from '../../units/money.ts'
import { formatMoment, formatRelative } from '../../units/time.ts'
import type { BudgetLine, TenantBudgets } from './budget-line.ts'

const periods: readonly Period[] = ['daily', 'weekly', 'monthly']

interface Editing {
  tenant: Tenant
  line: BudgetLine | null
}

export function BudgetsTab({ shown, reload }: { shown: readonly TenantBudgets[]; reload: () => void }) {
  const [editing, setEditing] = useState<Editing | null>(null)
  const [problem, setProblem] = useState('')
  const isOne = shown.length === 1

  async function remove(line: BudgetLine): Promise<void> {
    setProblem('')
    try {
      await removeBudget(line.budgetId)
      reload()
    } catch (cause) {
      setProblem(asApiError(cause).message)
    }
  }

  const first = shown[0]
  return (
    <section className="panel" data-testid="budgets">
      <header className="panel-head">
        <h2>{isOne && first ? (first.tenant.displayName ?? first.tenant.name) : 'Budgets'}</h2>
        {isOne && first && (
          <div className="panel-actions">
            <button
              type="button"
              className="button small"
              onClick={() => setEditing({ tenant: first.tenant, line: null })}
              data-testid="new-budget"
            >
              <Icon name="plus" size={14} />
              Set a budget
            </button>
          </div>
        )}
      </header>
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      {shown.every(({ budgets }) => budgets.length === 0) ? (
        <Empty title="No budget">
          Nothing limits what {isOne && first ? first.tenant.name : 'these tenants'} may spend.
        </Empty>
      ) : (
        <ul className="budget-cards">
          {shown.flatMap(({ tenant, budgets }) =>
            budgets.map(line => (
              <BudgetCard
                key={`${tenant.id} ${line.budgetId} ${line.period}`}
                tenant={tenant}
                line={line}
                hasTenant={!isOne}
                onEdit={() => setEditing({ tenant, line })}
                onRemove={() => remove(line)}
              />
            )),
          )}
        </ul>
      )}
      {editing && <EditBudget {...editing} onClose={() => setEditing(null)} onDone={reload} />}
    </section>
  )
}

interface BudgetCardProps {
  tenant: Tenant
  line: BudgetLine
  hasTenant: boolean
  onEdit: () => void
  onRemove: () => void
}

function BudgetCard({ tenant, line, hasTenant, onEdit, onRemove }: BudgetCardProps) {
  const nowMs = useNow()
  const state = budgetState(line)
  return (
    <li data-testid="budget-row">
      <header>
        <strong>{hasTenant ? (tenant.displayName ?? tenant.name) : capitalised(line.period)}</strong>
        {hasTenant && <span className="quiet">{line.period}</span>}
        {line.isImplicit && (
          <span className="chip" title="Nobody set it: it comes from DEFAULT_BUDGET_USD. Setting a budget replaces it.">
            default
          </span>
        )}
        <span className="row-actions">
          <button type="button" className="link" onClick={onEdit}>
            Change
          </button>
          <button
            type="button"
            className="icon-button"
            onClick={onRemove}
            disabled={line.isImplicit}
            aria-label={`Remove the ${line.period} budget of ${tenant.name}`}
            title={
              line.isImplicit
                ? 'The default budget cannot be removed, only replaced'
                : 'Remove; the default takes its place'
            }
          >
            <Icon name="trash" size={14} />
          </button>
        </span>
      </header>
      <BudgetBar {...line} label={`${tenant.name}, ${line.period} budget`} />
      <dl>
        <Amount name="Settled" nano={line.spentNano} />
        <Amount name="Held" nano={line.heldNano} />
        <Amount name="Left" nano={line.remainingNano} state={state} />
        <Amount name="Limit" nano={line.limitNano} />
        <div>
          <dt>Resets</dt>
          <dd title={line.resetsAtMs === null ? undefined : formatMoment(line.resetsAtMs)}>
            {line.resetsAtMs === null ? 'never' : formatRelative(line.resetsAtMs, nowMs)}
          </dd>
        </div>
      </dl>
    </li>
  )
}

function Amount({ name, nano, state }: { name: string; nano: bigint; state?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd title={formatMoneyExact(nano)} data-state={state}>
        {formatMoney(nano)}
      </dd>
    </div>
  )
}

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1)
}

function EditBudget({ tenant, line, onClose, onDone }: Editing & { onClose: () => void; onDone: () => void }) {
  const [period, setPeriod] = useState<Period>(line?.period ?? 'monthly')
  const [amount, setAmount] = useState(line ? formatUsd(line.limitNano) : '')
  return (
    <Dialog title={`Budget of ${tenant.name}`} onClose={onClose}>
      <ActionForm
        submit="Save"
        blocked={/^\d+(\.\d{1,9})?$/.test(amount) ? '' : 'Write an amount in dollars, such as 50 or 0.25'}
        onSubmit={async () => {
          await setBudget(tenant.id, { period, amountUsd: amount })
          onDone()
          onClose()
        }}
      >
        <Field label="Period" hint={line ? undefined : 'One budget per period; setting it again replaces it.'}>
          <select
            value={period}
            onChange={event => setPeriod(event.target.value as Period)}
            disabled={line !== null}
            data-testid="budget-period"
          >
            {(line?.period === 'custom' ? [...periods, 'custom'] : periods).map(one => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </Field>
        <Field
          label="Limit in US dollars"
          hint="Hard: a call that does not fit is refused before it costs anything. 0 blocks."
        >
          <input
            inputMode="decimal"
            value={amount}
            onChange={event => setAmount(event.target.value.trim())}
            placeholder="50"
            data-testid="budget-amount"
          />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

import { useEffect, useState } from 'react'
import { type Comparison, compare } from '../../api/billaged.ts'
import type { VersionInput } from '../../api/billing-plans.ts'
import { recentMonths } from '../../billing/periods.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatCount } from '../../units/counts.ts'
import { formatMoney, formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { PeriodSelect } from './customer-page.tsx'

interface WhatIfProps {
  title: string
  /** A stored plan, or a version that is still being written; null while it cannot be read. */
  plan: { planId: string } | { version: VersionInput } | null
  currency: string
}

/** Each customer under its own plan and under this one, for a month that was or is. Nothing is stored. */
export function WhatIf({ title, plan, currency }: WhatIfProps) {
  const months = recentMonths(6, Date.now())
  const [key, setKey] = useState(months[1]?.key ?? '')
  const month = months.find(one => one.key === key) ?? months[0]
  const text = useRested(plan === null ? null : JSON.stringify(bodyOf(plan, currency)))
  const result = useResource(text === null || !month ? null : `what if ${text} ${month.key}`, signal =>
    compare({ ...JSON.parse(text ?? '{}'), from: month?.from ?? '', to: month?.to ?? '' }, signal),
  )
  return (
    <Panel
      title={title}
      actions={month && <PeriodSelect periods={months} period={month} onChange={setKey} />}
      testId="what-if"
    >
      {plan === null && <p className="panel-note quiet">As soon as the form can be read, its effect stands here.</p>}
      {text !== null && (
        <Loaded resource={result} skeleton={<SkeletonRows rows={4} />}>
          {comparison => <Rows comparison={comparison} />}
        </Loaded>
      )}
    </Panel>
  )
}

/** How long typing rests before the service is asked. Rating a month for everybody is work. */
const restMs = 500

function useRested(value: string | null): string | null {
  const [rested, setRested] = useState(value)
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), restMs)
    return () => clearTimeout(timer)
  }, [value])
  return rested
}

/** A version to come is tried on a time that is over: as if it had always been there. */
function bodyOf(plan: { planId: string } | { version: VersionInput }, currency: string) {
  return 'planId' in plan ? plan : { version: { ...plan.version, effectiveFrom: '2000-01-01T00:00:00Z' }, currency }
}

function Rows({ comparison: { rows, payLess, payMore, nextCursor } }: { comparison: Comparison }) {
  const used = rows.filter(({ nowNano, thenNano }) => nowNano !== '0' || thenNano !== '0')
  if (used.length === 0)
    return (
      <Empty title="Nobody used anything in this month" command="bin/billaged-cli demo">
        A month to try prices on:
      </Empty>
    )
  const unrated = [...new Set(rows.flatMap(row => row.unrated))]
  return (
    <>
      <p className="panel-note">
        <b>{formatCount(payLess.length)}</b> would pay less, <b>{formatCount(payMore.length)}</b> more
        {nextCursor !== null && `, of the first ${formatCount(rows.length)} customers`}.
      </p>
      <table className="table">
        <thead>
          <tr>
            <th>Customer</th>
            <th className="number">Now</th>
            <th className="number">Then</th>
            <th className="number c-sm">Difference</th>
          </tr>
        </thead>
        <tbody>
          {used.map(row => (
            <tr key={row.customerId} data-testid="what-if-row">
              <td className="ellipsis main">
                <Link to={billingRoute('customers', { id: row.customerId })}>{row.customerId}</Link>
              </td>
              <td className="number">{formatMoney(nanoFrom(row.nowNano), row.currency)}</td>
              <td className="number" title={formatMoneyExact(nanoFrom(row.thenNano), row.currency)}>
                {formatMoney(nanoFrom(row.thenNano), row.currency)}
              </td>
              <td className="number c-sm">
                {row.differenceNano === null ? (
                  <span className="quiet">other currency</span>
                ) : (
                  <Difference nano={nanoFrom(row.differenceNano)} currency={row.currency} />
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {unrated.length > 0 && (
        <p className="panel-note">
          <strong>It has no price for:</strong> {unrated.join(', ')}.
        </p>
      )}
    </>
  )
}

function Difference({ nano, currency }: { nano: bigint; currency: string }) {
  if (nano === 0n) return <span className="quiet">same</span>
  return (
    <span title={formatMoneyExact(nano, currency)}>
      {nano > 0n ? '+' : ''}
      {formatMoney(nano, currency)}
    </span>
  )
}

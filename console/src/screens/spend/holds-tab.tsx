import { listHolds } from '../../api/budgetguard.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatDuration } from '../../units/duration.ts'
import { formatMoney, formatMoneyExact, nanoFrom, nanoFromUsd } from '../../units/money.ts'
import { formatRelative, parseMoment } from '../../units/time.ts'

/** What running calls may still cost at most. Each hold ends by itself, at its deadline at the latest. */
export function HoldsTab({ tenantId }: { tenantId: number | null }) {
  const holds = useResource('holds', listHolds, 2_000)
  const nowMs = useNow()
  return (
    <Panel
      title="Open holds"
      aside={holds.data && `${holds.data.open} open · ${formatMoney(nanoFromUsd(holds.data.heldUsd))} held`}
      testId="holds"
    >
      <Loaded resource={holds}>
        {({ holds: all }) => {
          const shown = tenantId === null ? all : all.filter(hold => hold.tenantId === tenantId)
          if (shown.length === 0)
            return (
              <Empty title="Nothing is held">
                No call is running. While one runs, the most it can cost is set aside here on every budget it touches.
              </Empty>
            )
          return (
            <table className="table">
              <thead>
                <tr>
                  <th>Age</th>
                  <th>Tenant</th>
                  <th>Model</th>
                  <th className="c-md">On</th>
                  <th className="number">Held</th>
                  <th className="c-sm">Ends by itself</th>
                </tr>
              </thead>
              <tbody>
                {shown.map(hold => (
                  <tr key={hold.id} data-testid="hold-row" title={`Request ${hold.requestId} on ${hold.node}`}>
                    <td className="time">
                      {formatDuration(Math.max(0, nowMs - (parseMoment(hold.openedAt) ?? nowMs)))}
                    </td>
                    <td className="ellipsis">{hold.tenant}</td>
                    <td className="ellipsis">{hold.model}</td>
                    <td className="c-md ellipsis quiet">
                      {hold.accounts.map(({ scope, period }) => `${scope} ${period}`).join(', ')}
                    </td>
                    <td className="number" title={formatMoneyExact(nanoFrom(hold.amountUsdNano))}>
                      {formatMoney(nanoFrom(hold.amountUsdNano))}
                    </td>
                    <td className="c-sm quiet">{formatRelative(parseMoment(hold.deadline) ?? nowMs, nowMs)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }}
      </Loaded>
    </Panel>
  )
}

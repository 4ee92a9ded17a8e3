import { Fragment, useDeferredValue, useState } from 'react'
import type { LedgerRow } from '../../../../services/budgetguard/api.ts'
import { listLedger } from '../../api/budgetguard.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded } from '../../parts/panel.tsx'
import { formatCount } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatMoney, formatMoneyExact, nanoFrom, nanoFromUsd } from '../../units/money.ts'
import { formatClock, formatDay, formatMoment } from '../../units/time.ts'
import { Fact } from '../hosts/hosts.tsx'
import { StatusChip } from './status-chip.tsx'

const pageRows = 50

/** Every call ends as one row; rows are never changed, corrections are rows of their own. */
export function LedgerTab({ tenantId }: { tenantId: number | null }) {
  const [status, setStatus] = useState('')
  const [model, setModel] = useState('')
  const [page, setPage] = useState(0)
  const [openId, setOpenId] = useState<string | null>(null)
  const wanted = useDeferredValue(model)
  const ledger = useResource(
    `ledger ${tenantId} ${status} ${wanted} ${page}`,
    signal =>
      listLedger(
        { ...(tenantId === null ? {} : { tenantId }), status, model: wanted, page, limit: pageRows, days: 30 },
        signal,
      ),
    page === 0 ? 5_000 : 0,
  )
  const filter = (change: () => void) => {
    change()
    setPage(0)
  }
  return (
    <section className="panel" data-testid="ledger">
      <header className="panel-head">
        <h2>Ledger</h2>
        <span className="panel-aside">last 30 days</span>
        <div className="panel-actions">
          <input
            className="small"
            aria-label="Only models containing"
            placeholder="Model"
            value={model}
            onChange={event => filter(() => setModel(event.target.value))}
          />
          <select
            className="small"
            aria-label="Only results"
            value={status}
            onChange={event => filter(() => setStatus(event.target.value))}
          >
            <option value="">All results</option>
            <option value="success">ok</option>
            <option value="blocked">refused</option>
            <option value="failed">failed</option>
          </select>
        </div>
      </header>
      <Loaded resource={ledger}>
        {({ data, total, limit }) =>
          data.length === 0 ? (
            <Empty title={status || model ? 'No such rows' : 'No calls yet'}>
              {status || model
                ? 'Nothing in the last 30 days matches.'
                : 'Each call through the gateway becomes a row here, with its exact cost.'}
            </Empty>
          ) : (
            <>
              <table className="table ledger">
                <thead>
                  <tr>
                    <th>Time</th>
                    {tenantId === null && <th className="c-sm">Tenant</th>}
                    <th>Model</th>
                    <th className="number c-md">In</th>
                    <th className="number c-md">Out</th>
                    <th className="number c-lg">Took</th>
                    <th className="number">Cost</th>
                    <th>Result</th>
                  </tr>
                </thead>
                <tbody>
                  {data.map(row => (
                    <Fragment key={row.id}>
                      <tr data-testid="ledger-row" data-open={openId === row.id || undefined}>
                        <td className="time" title={formatMoment(Date.parse(row.ts))}>
                          <button
                            type="button"
                            className="row-toggle"
                            aria-expanded={openId === row.id}
                            onClick={() => setOpenId(openId === row.id ? null : row.id)}
                          >
                            <Icon name="chevron" size={12} />
                            <span className="c-md quiet">{formatDay(Date.parse(row.ts))}</span>{' '}
                            {formatClock(Date.parse(row.ts))}
                          </button>
                        </td>
                        {tenantId === null && <td className="c-sm ellipsis">{row.tenant}</td>}
                        <td className="ellipsis main" title={row.model}>
                          {row.model}
                          {row.count > 1 && <span className="hint">× {formatCount(row.count)}</span>}
                        </td>
                        <td className="number c-md">{formatCount(row.promptTok)}</td>
                        <td className="number c-md">{formatCount(row.compTok)}</td>
                        <td className="number c-lg">{row.latencyMs === null ? '–' : formatDuration(row.latencyMs)}</td>
                        <td className="number" title={formatMoneyExact(nanoFrom(row.usdNano))}>
                          {formatMoney(nanoFrom(row.usdNano))}
                        </td>
                        <td>
                          <StatusChip status={row.status} reason={row.reason} />
                        </td>
                      </tr>
                      {openId === row.id && <Arithmetic row={row} />}
                    </Fragment>
                  ))}
                </tbody>
              </table>
              <footer className="pager">
                <span className="quiet">
                  {formatCount(page * limit + 1)}–{formatCount(page * limit + data.length)} of {formatCount(total)}
                </span>
                <button
                  type="button"
                  className="button small"
                  disabled={page === 0}
                  title={page === 0 ? 'This is the newest page' : undefined}
                  onClick={() => setPage(page - 1)}
                >
                  Newer
                </button>
                <button
                  type="button"
                  className="button small"
                  disabled={(page + 1) * limit >= total}
                  title={(page + 1) * limit >= total ? 'There are no older rows' : undefined}
                  onClick={() => setPage(page + 1)}
                >
                  Older
                </button>
              </footer>
            </>
          )
        }
      </Loaded>
    </section>
  )
}

const usageWords: Record<LedgerRow['usageSource'], string> = {
  reported: 'the provider',
  estimated: 'our count of what was seen (the provider reported nothing)',
  hold: 'the whole hold (the call was lost)',
  none: 'nobody; no call was made',
}

/** How the amount came about, to the last digit. */
function Arithmetic({ row }: { row: LedgerRow }) {
  return (
    <tr className="row-detail">
      <td colSpan={8}>
        <dl className="facts">
          <Fact name="Cost" value={formatMoneyExact(nanoFrom(row.usdNano))} />
          <Fact name="Held before the call" value={formatMoneyExact(nanoFromUsd(row.heldUsd))} />
          <Fact name="Exact cost, 10⁻²¹ USD" value={row.costExact} />
          <Fact
            name="Tokens"
            value={`${formatCount(row.promptTok)} in (${formatCount(row.cachedTok)} cached) · ${formatCount(row.compTok)} out`}
          />
          <Fact name="Counted by" value={usageWords[row.usageSource]} />
          <Fact name="Provider" value={row.provider ?? '–'} />
          <Fact name="Route" value={row.route} />
          <Fact name="Request" value={row.requestId} />
          {row.reason && <Fact name="Reason" value={row.reason} />}
          {row.sessionId && <Fact name="Session" value={row.sessionId} />}
          {row.tags.length > 0 && <Fact name="Tags" value={row.tags.map(({ name }) => name).join(', ')} />}
          {row.kind !== 'call' && <Fact name="Kind" value={row.kind} />}
        </dl>
      </td>
    </tr>
  )
}

import { useState } from 'react'
import type { CallStatus, LedgerRow, LiveCall } from '../../../../services/budgetguard/api.ts'
import { listLedger } from '../../api/budgetguard.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { useAdminLive } from '../../live/admin-live.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { formatCount } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatMoney, formatMoneyExact, nanoFromUsd } from '../../units/money.ts'
import { formatClock, formatMoment } from '../../units/time.ts'
import { StatusChip } from '../spend/status-chip.tsx'

const shown = 8

interface CallLine {
  requestId: string
  tsMs: number
  tenant: string
  model: string
  status: CallStatus
  reason: string | null
  costNano: bigint
  tokens: number
  latencyMs: number | null
  isNew: boolean
}

/** The newest calls through the gateway: from the ledger, then as they end. */
export function CallsPanel() {
  const ledger = useResource('recent calls', signal => listLedger({ limit: shown }, signal), 30_000)
  const [live, setLive] = useState<readonly CallLine[]>([])
  useAdminLive(event => {
    if (event.event === 'call') setLive(before => [lineFrom(event.data, true), ...before].slice(0, shown))
  })
  return (
    <Panel
      className="calls-panel"
      title={
        <Link to={{ screen: 'spend', tenant: null, tab: 'ledger' }}>
          AI calls <Icon name="chevron" size={12} />
        </Link>
      }
      testId="calls-panel"
    >
      <Loaded resource={ledger} skeleton={undefined}>
        {page => {
          const lines = merged(live, page.data)
          if (lines.length === 0)
            return (
              <Empty title="No calls yet" command={firstCall()}>
                Make one with the built-in echo model; it needs no provider key.{' '}
                <Link to={{ screen: 'spend', tenant: null, tab: 'keys' }}>Create a gateway key</Link> first.
              </Empty>
            )
          return (
            <table className="table">
              <thead>
                <tr>
                  <th>Time</th>
                  <th>Model</th>
                  <th className="c-md">Tenant</th>
                  <th className="c-sm number">Tokens</th>
                  <th className="c-md number">Took</th>
                  <th className="number">Cost</th>
                  <th>Result</th>
                </tr>
              </thead>
              <tbody>
                {lines.map(line => (
                  <tr key={line.requestId} data-new={line.isNew || undefined} data-testid="call-row">
                    <td className="time" title={formatMoment(line.tsMs)}>
                      {formatClock(line.tsMs)}
                    </td>
                    <td className="ellipsis main" title={line.model}>
                      {line.model}
                    </td>
                    <td className="c-md ellipsis">{line.tenant}</td>
                    <td className="c-sm number">{line.status === 'blocked' ? '–' : formatCount(line.tokens)}</td>
                    <td className="c-md number">{line.latencyMs === null ? '–' : formatDuration(line.latencyMs)}</td>
                    <td className="number" title={formatMoneyExact(line.costNano)}>
                      {formatMoney(line.costNano)}
                    </td>
                    <td>
                      <StatusChip status={line.status} reason={line.reason} />
                    </td>
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

/** A live call and its ledger row are the same call; the row, which has an id and the final word, wins. */
function merged(live: readonly CallLine[], rows: readonly LedgerRow[]): CallLine[] {
  const known = new Set(rows.map(row => row.requestId))
  return [...live.filter(line => !known.has(line.requestId)), ...rows.map(row => lineFrom(row, false))]
    .sort((a, b) => b.tsMs - a.tsMs)
    .slice(0, shown)
}

function lineFrom(call: LiveCall | LedgerRow, isNew: boolean): CallLine {
  return {
    requestId: call.requestId,
    tsMs: Date.parse(call.ts),
    tenant: call.tenant,
    model: call.model,
    status: call.status,
    reason: call.reason,
    costNano: nanoFromUsd(call.usd),
    tokens: call.promptTok + call.compTok,
    latencyMs: call.latencyMs,
    isNew,
  }
}

function firstCall(): string {
  return `curl -s ${serviceUrl('budgetguard')}/v1/chat/completions -H "Authorization: Bearer $KEY" \\
  -H 'content-type: application/json' -d '{"model":"echo","messages":[{"role":"user","content":"hello"}]}'`
}

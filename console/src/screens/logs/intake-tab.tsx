import { useState } from 'react'
import {
  getLedger,
  type IntakeStatus,
  intakeAddress,
  type LedgerAnswer,
  type LedgerCounts,
  listFieldValues,
} from '../../api/logs.ts'
import { Sparkline } from '../../charts/sparkline.tsx'
import { type Resource, useResource } from '../../live/use-resource.ts'
import { dataOf, useStream } from '../../live/use-stream.ts'
import { type IntakeRates, ratesBetween } from '../../logs/intake-rates.ts'
import { term } from '../../logs/query.ts'
import { type Counted, sendersOf } from '../../logs/senders.ts'
import { Empty } from '../../parts/empty.tsx'
import { Failure } from '../../parts/failure.tsx'
import { FillBar } from '../../parts/fill-bar.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { logsRoute } from '../../router/route.ts'
import { formatBytes, formatBytesPerSecond } from '../../units/bytes.ts'
import { formatCount, formatPerSecond } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { SendOne } from './send-one.tsx'

/** States kept to compare: the newest with one some seconds older. */
const statesKept = 60
/** Over which a rate is measured. Long enough to be steady, short enough to follow. */
const rateWindowMs = 10_000

/** Whether everything that came in is accounted for, and how fast it comes. */
export function IntakeTab() {
  const [states, setStates] = useState<readonly IntakeStatus[]>([])
  const ledger = useResource('log ledger', signal => getLedger({ from: '-24h' }, signal), 5_000)
  const stream = useStream('log-ingestion', intakeAddress, event => {
    const status = event.event === 'intake' ? dataOf<IntakeStatus>(event) : null
    if (status) setStates(before => [...before.slice(1 - statesKept), status])
  })
  const now = states.at(-1)
  const rates = ratesOf(states)
  return (
    <>
      <Conservation ledger={ledger} pending={now?.pending_rows ?? 0} />
      {stream.status === 'refused' ? (
        <section className="panel">
          <Failure error={stream.error} />
        </section>
      ) : (
        <div className="intake-grid">
          <Panel
            title="Arriving"
            aside={now?.tenant ? `of ${now.tenant}` : undefined}
            actions={<LiveMark state={stream} />}
            testId="intake-rates"
          >
            {now ? <Arriving now={now} rates={rates} states={states} /> : <SkeletonRows rows={4} />}
          </Panel>
          <Panel title="Journal" testId="intake-journal">
            {now ? <JournalGauge now={now} rates={rates} /> : <SkeletonRows rows={4} />}
          </Panel>
          <Panel title="By key" aside="last 24 hours" testId="intake-keys">
            <ByKey ledger={ledger} />
          </Panel>
          <Panel title="Top services" aside="last hour" testId="intake-services">
            <TopServices />
          </Panel>
          <Panel title="Turned away" aside="since the service started" testId="intake-refused">
            {now ? <Refused now={now} /> : <SkeletonRows rows={2} />}
          </Panel>
        </div>
      )}
    </>
  )
}

function ratesOf(states: readonly IntakeStatus[]): IntakeRates | null {
  const now = states.at(-1)
  if (!now) return null
  const since = Date.parse(now.at) - rateWindowMs
  const before = states.find(state => Date.parse(state.at) >= since && state.uptime_seconds <= now.uptime_seconds)
  return before ? ratesBetween(before, now) : null
}

/** accepted = stored + quarantined + duplicates + pending + damaged, to the row. */
function Conservation({ ledger, pending }: { ledger: Resource<LedgerAnswer>; pending: number }) {
  return (
    <Panel title="Every row accounted for" aside="last 24 hours" testId="conservation">
      <Loaded resource={ledger} skeleton={<SkeletonRows rows={2} />}>
        {({ totals, difference, isCut }) => (
          <>
            <Equation totals={totals} pending={pending} difference={difference} />
            {isCut && (
              <p className="panel-note quiet">More hours and keys than one answer holds: these are the newest.</p>
            )}
          </>
        )}
      </Loaded>
    </Panel>
  )
}

const parts = [
  { name: 'stored', label: 'stored', hint: 'In the store, to be found' },
  { name: 'quarantined', label: 'quarantined', hint: 'The database refused them for what they are' },
  { name: 'duplicates', label: 'duplicates', hint: 'Sent again after they had been accepted, and kept once' },
  { name: 'pending', label: 'pending', hint: 'On disk in the journal, on their way to the store' },
  { name: 'damaged', label: 'damaged', hint: 'Lost with a damaged part of a journal' },
] as const

function Equation({ totals, pending, difference }: { totals: LedgerCounts; pending: number; difference: string }) {
  const isBalanced = difference === '0'
  return (
    <div className="equation" data-testid="equation" data-balanced={isBalanced}>
      <dl>
        <div>
          <dt>accepted</dt>
          <dd>{formatCount(BigInt(totals.accepted))}</dd>
        </div>
        <span aria-hidden="true">=</span>
        {parts.map(({ name, label, hint }, i) => (
          <div key={name} className="equation-part" title={hint}>
            {i > 0 && <span aria-hidden="true">+</span>}
            <div data-zero={totals[name] === '0' || undefined}>
              <dt>
                {name === 'quarantined' ? (
                  <Link
                    to={{ screen: 'logs', tab: 'quarantine', query: '', range: '', from: '', to: '', isLive: false }}
                  >
                    {label}
                  </Link>
                ) : (
                  label
                )}
              </dt>
              <dd>{formatCount(BigInt(totals[name]))}</dd>
            </div>
          </div>
        ))}
      </dl>
      <p data-tone={isBalanced ? 'good' : 'bad'} role="status">
        <Icon name={isBalanced ? 'check' : 'alert'} size={14} />
        {isBalanced
          ? `Difference 0${pending > 0 ? `; ${formatCount(pending)} on their way right now` : ''}.`
          : `${formatCount(BigInt(difference))} rows are not accounted for. Run: npx purser logs doctor reconcile`}
      </p>
    </div>
  )
}

interface StateProps {
  now: IntakeStatus
  rates: IntakeRates | null
}

function Arriving({ now, rates, states }: StateProps & { states: readonly IntakeStatus[] }) {
  if (now.rows.length === 0) return <SendOne title="Nothing has arrived yet">Send the first line.</SendOne>
  const perSecond = states.slice(1).map((state, i) => ratesBetween(states[i] ?? state, state)?.rowsPerSecond ?? null)
  return (
    <>
      <div className="intake-head">
        <strong>{rates ? formatPerSecond(rates.rowsPerSecond) : '–'}</strong>
        <span className="quiet">
          {rates
            ? `${formatBytesPerSecond(rates.bytesPerSecond)} · stored ${formatPerSecond(rates.storedPerSecond)}`
            : ''}
        </span>
        <span className="quiet" title="From append to acknowledgement, the wait for the disk included">
          {rates?.ackP50Ms == null || rates.ackP99Ms == null
            ? 'nothing acknowledged in the last seconds'
            : `acknowledged in ${formatDuration(rates.ackP50Ms)}, 99 % within ${formatDuration(rates.ackP99Ms)}`}
        </span>
        <Sparkline values={perSecond} color="var(--chart-1)" />
      </div>
      <table className="table">
        <thead>
          <tr>
            <th>Protocol</th>
            <th className="number">Rows/s</th>
            <th className="number c-sm">Bytes/s</th>
            <th className="number">Since start</th>
          </tr>
        </thead>
        <tbody>
          {(rates?.protocols ?? []).map(({ protocol, rows, rowsPerSecond, bytesPerSecond }) => (
            <tr key={protocol} data-testid="intake-protocol">
              <td>{protocol === 'self' ? 'its own lines' : protocol}</td>
              <td className="number">{formatPerSecond(rowsPerSecond)}</td>
              <td className="number c-sm">{formatBytesPerSecond(bytesPerSecond)}</td>
              <td className="number">{formatCount(rows)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  )
}

const keysShown = 10

/** Who sends how much: from the ledger, so it adds up with the equation above. */
function ByKey({ ledger }: { ledger: Resource<LedgerAnswer> }) {
  const [seen, setSeen] = useState<{ now: Counted | null; before: Counted | null }>({ now: null, before: null })
  const { data, loadedAtMs } = ledger
  if (data !== null && loadedAtMs !== null && seen.now?.rows !== data.rows)
    setSeen({ now: { rows: data.rows, atMs: loadedAtMs }, before: seen.now })
  const senders = seen.now ? sendersOf(seen.now, seen.before) : []
  return (
    <Loaded resource={ledger}>
      {() =>
        senders.length === 0 ? (
          <Empty title="Nobody yet">Each key that sends gets a line here.</Empty>
        ) : (
          <>
            <table className="table">
              <thead>
                <tr>
                  <th>Key</th>
                  <th className="c-md">Tenant</th>
                  <th className="number">Rows/s</th>
                  <th className="number c-sm">Bytes/s</th>
                  <th className="number">Rows</th>
                  <th className="number c-sm">Bytes</th>
                </tr>
              </thead>
              <tbody>
                {senders.slice(0, keysShown).map(({ key, tenant, rows, bytes, rowsPerSecond, bytesPerSecond }) => (
                  <tr key={`${tenant} ${key}`} data-testid="intake-key">
                    <td className="ellipsis">{key === 'self' ? 'its own lines' : key}</td>
                    <td className="c-md quiet">{tenant}</td>
                    <td className="number">{rowsPerSecond === null ? '–' : formatPerSecond(rowsPerSecond)}</td>
                    <td className="number c-sm">
                      {bytesPerSecond === null ? '–' : formatBytesPerSecond(bytesPerSecond)}
                    </td>
                    <td className="number">{formatCount(rows)}</td>
                    <td className="number c-sm">{formatBytes(bytes)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
            {senders.length > keysShown && (
              <p className="panel-note quiet">{formatCount(senders.length - keysShown)} smaller ones are not shown.</p>
            )}
          </>
        )
      }
    </Loaded>
  )
}

function TopServices() {
  const services = useResource(
    'top services',
    signal => listFieldValues('service', { from: '-1h', to: 'now', prefix: '', limit: keysShown }, signal),
    15_000,
  )
  return (
    <Loaded resource={services}>
      {({ values }) =>
        values.length === 0 ? (
          <Empty title="Nothing in the last hour">Services appear here with their first entry.</Empty>
        ) : (
          <table className="table">
            <tbody>
              {values.map(({ value, count }) => (
                <tr key={value} data-testid="intake-service">
                  <td className="ellipsis">
                    <Link to={logsRoute(term('service', value))}>{value}</Link>
                  </td>
                  <td className="number">{formatCount(BigInt(count))}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )
      }
    </Loaded>
  )
}

function JournalGauge({ now, rates }: StateProps) {
  const { bytes, capacity_bytes: capacity, oldest_pending_seconds: oldestS } = now.journal
  return (
    <div className="intake-journal">
      <div className="intake-head">
        <strong>{formatBytes(bytes)}</strong>
        <span className="quiet">of {formatBytes(capacity)} wait for the store</span>
      </div>
      <FillBar share={capacity > 0 ? bytes / capacity : 0} label="Journal" />
      <dl className="facts">
        <div>
          <dt>Rows on their way</dt>
          <dd>{formatCount(now.pending_rows)}</dd>
        </div>
        <div>
          <dt>Oldest</dt>
          <dd>{now.pending_rows === 0 ? 'none' : formatDuration(oldestS * 1000)}</dd>
        </div>
        <div>
          <dt>Full in</dt>
          <dd>
            {rates?.journalFullInS == null || rates.journalFullInS > 86_400 * 30
              ? 'not growing'
              : formatDuration(rates.journalFullInS * 1000)}
          </dd>
        </div>
        <div>
          <dt>Store</dt>
          <dd data-tone={now.is_store_reachable ? undefined : 'bad'}>
            {now.is_store_reachable ? 'takes commits' : 'away; intake goes on'}
          </dd>
        </div>
      </dl>
      {now.problem && <p className="problem">{now.problem}</p>}
    </div>
  )
}

const limitWords: Record<string, string> = {
  requests: 'more requests than its limit',
  rows: 'more rows than its limit',
  bytes: 'more bytes than its limit',
  quota: 'over its daily quota',
  overload: 'the service was full',
  auth: 'failed sign-ins',
}

function Refused({ now }: { now: IntakeStatus }) {
  const limited = now.limited.filter(({ count }) => count > 0)
  const rejected = now.rejected.filter(({ count }) => count > 0)
  if (limited.length + rejected.length === 0)
    return (
      <Empty title="Nobody">
        No request was answered 429, and no row was refused by a rule. Senders keep what they get a 429 for and try
        again.
      </Empty>
    )
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Who</th>
          <th>Why</th>
          <th className="number">Count</th>
        </tr>
      </thead>
      <tbody>
        {limited.map(({ key, limit, count }) => (
          <tr key={`${key} ${limit}`}>
            <td className="ellipsis">{key === 'all' ? 'all senders' : key}</td>
            <td>429, {limitWords[limit] ?? limit}</td>
            <td className="number">{formatCount(count)}</td>
          </tr>
        ))}
        {rejected.map(({ protocol, reason, count }) => (
          <tr key={`${protocol} ${reason}`}>
            <td className="ellipsis">{protocol}</td>
            <td>rows refused: {reason}</td>
            <td className="number">{formatCount(count)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

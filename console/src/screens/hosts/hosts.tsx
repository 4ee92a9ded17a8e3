import type { ConsoleService } from '../../../../services/budgetguard/api.ts'
import { getStatus, type StatusResponse } from '../../api/collector.ts'
import { useNow } from '../../live/clock.ts'
import { type Resource, useResource } from '../../live/use-resource.ts'
import { rangeMs } from '../../logs/range.ts'
import { Choice } from '../../parts/choice.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Failure } from '../../parts/failure.tsx'
import { FillBar } from '../../parts/fill-bar.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Loaded, Panel, SkeletonRows, StaleLine } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import type { Route } from '../../router/route.ts'
import { formatBytes } from '../../units/bytes.ts'
import { formatCount } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatRelative, parseMoment } from '../../units/time.ts'
import { HostCharts } from './host-charts.tsx'
import { type Filesystem, type HostFacts, useHostFacts, useHostMetrics } from './host-metrics.ts'
import { collectorIndex, useServices } from './use-hosts.ts'

type HostsRoute = Extract<Route, { screen: 'hosts' }>

const hostRanges = ['15m', '1h', '6h', '24h'] as const
const hostRangeDefault = '15m'

export function Hosts({ route }: { route: HostsRoute }) {
  const services = useServices()
  if (services.data === null)
    return (
      <div className="screen">
        <header className="screen-head">
          <h1>Hosts</h1>
        </header>
        <section className="panel">
          {services.error ? <Failure error={services.error} retry={services.reload} /> : <SkeletonRows rows={6} />}
        </section>
      </div>
    )
  const collectors = services.data.filter(({ path, isConfigured }) => isConfigured && collectorIndex(path) !== null)
  const index = route.host ?? collectorIndex(collectors[0]?.path ?? '')
  return index === null ? <NoHosts /> : <Host key={index} route={route} index={index} collectors={collectors} />
}

function Host({
  route,
  index,
  collectors,
}: {
  route: HostsRoute
  index: number
  collectors: readonly ConsoleService[]
}) {
  const range = hostRanges.find(one => one === route.range) ?? hostRangeDefault
  const windowS = (rangeMs(range) ?? 900_000) / 1000
  const { seed, tables, stream, intervalS } = useHostMetrics(index, windowS)
  const facts = useHostFacts(index)
  const status = useResource(`collector status ${index}`, signal => getStatus(index, signal), 5_000)
  return (
    <div className="screen hosts">
      <header className="screen-head">
        <h1>{facts.data?.name || 'Host'}</h1>
        <span className="quiet">{facts.data?.system}</span>
        <div className="screen-actions">
          <LiveMark state={stream} />
          <Choice
            label="Time range"
            value={range}
            options={hostRanges.map(value => ({ value, label: value }))}
            onChange={value => navigate({ ...route, host: route.host, range: value === hostRangeDefault ? '' : value })}
          />
        </div>
      </header>
      {collectors.length > 1 && (
        <nav className="host-tabs" aria-label="Hosts">
          {collectors.map(({ path, status: health }, i) => {
            const n = collectorIndex(path) ?? i
            return (
              <Link
                key={path}
                to={{ ...route, host: n }}
                aria-current={n === index ? 'page' : undefined}
                data-status={health}
              >
                <i className="dot" /> Host {n + 1}
              </Link>
            )
          })}
        </nav>
      )}
      {seed.error && seed.data === null ? (
        <section className="panel">
          <Failure error={seed.error} retry={seed.reload} />
        </section>
      ) : (
        <>
          {seed.error && <StaleLine error={seed.error} loadedAtMs={seed.loadedAtMs} retry={seed.reload} />}
          <HostCharts tables={tables} windowS={windowS} height={190} facts={facts.data} />
        </>
      )}
      <div className="hosts-grid">
        <Filesystems facts={facts} />
        <Collector status={status} facts={facts.data} intervalS={intervalS} />
      </div>
    </div>
  )
}

function Filesystems({ facts }: { facts: Resource<HostFacts> }) {
  return (
    <Panel title="Filesystems" testId="filesystems">
      <Loaded resource={facts}>
        {({ filesystems }) =>
          filesystems.length === 0 ? (
            <Empty title="No filesystems reported">
              Network and pseudo filesystems are left out; <code>filesystem.mounts</code> names others.
            </Empty>
          ) : (
            <ul className="fs-list">
              {filesystems.map(fs => (
                <FilesystemRow key={`${fs.device} ${fs.mountpoint}`} fs={fs} />
              ))}
            </ul>
          )
        }
      </Loaded>
    </Panel>
  )
}

function FilesystemRow({ fs }: { fs: Filesystem }) {
  const used = 1 - fs.availableBytes / fs.sizeBytes
  return (
    <li>
      <span className="fs-name ellipsis" title={fs.device}>
        {fs.mountpoint}
      </span>
      <span className="fs-amounts">
        <b>{formatBytes(fs.availableBytes)}</b> free of {formatBytes(fs.sizeBytes)}
      </span>
      <FillBar share={used} label={`${fs.mountpoint} used`} />
    </li>
  )
}

function Collector({
  status,
  facts,
  intervalS,
}: {
  status: Resource<StatusResponse>
  facts: HostFacts | null
  intervalS: number
}) {
  const nowMs = useNow()
  return (
    <Panel title="Collector" aside={status.data?.version} testId="collector">
      <Loaded resource={status}>
        {({ deviceId, series, uptimeS, newestStampMs, storage, upload, dropped }) => {
          const lost = Object.values(dropped).reduce((sum, n) => sum + n, 0)
          const sent = parseMoment(upload.lastSuccess)
          return (
            <dl className="facts">
              <Fact name="Device" value={deviceId} />
              <Fact name="Newest sample" value={formatRelative(newestStampMs, nowMs)} />
              <Fact name="Sampled every" value={formatDuration(intervalS * 1000)} />
              <Fact name="Series" value={formatCount(series)} />
              <Fact name="Running for" value={formatDuration(uptimeS * 1000)} />
              {facts?.bootTimeS && <Fact name="Host up for" value={formatDuration(nowMs - facts.bootTimeS * 1000)} />}
              {facts?.temperatureC !== null && facts?.temperatureC !== undefined && (
                <Fact name="Hottest zone" value={`${facts.temperatureC.toFixed(0)} °C`} />
              )}
              <Fact
                name="On disk"
                value={`${formatBytes(storage.databaseBytes)} of at most ${formatBytes(storage.bytesMax)}`}
              />
              <Fact
                name="Forwarding"
                value={
                  upload.isEnabled
                    ? `${formatCount(upload.pending)} waiting${sent === null ? '' : ` · last sent ${formatRelative(sent, nowMs)}`}`
                    : 'off: samples stay on this machine'
                }
              />
              {upload.trouble && <Fact name="Trouble" value={upload.trouble} />}
              <Fact name="Lost" value={lost === 0 ? 'nothing' : `${formatCount(lost)} samples`} />
            </dl>
          )
        }}
      </Loaded>
    </Panel>
  )
}

export function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  )
}

function NoHosts() {
  return (
    <div className="screen">
      <header className="screen-head">
        <h1>Hosts</h1>
      </header>
      <section className="panel">
        <Empty title="No host is watched" command="bin/metrics-collector -config configs/config.yaml">
          Start a collector on a machine and add its address to <code>PURSER_COLLECTORS</code> (a comma list).{' '}
          <code>npm start</code> does both for this machine.
        </Empty>
      </section>
    </div>
  )
}

import type { ConsoleService } from '../../../../services/budgetguard/api.ts'
import type { Resource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Failure } from '../../parts/failure.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Link } from '../../router/navigation.tsx'
import { HostCharts } from '../hosts/host-charts.tsx'
import { useHostFacts, useHostMetrics } from '../hosts/host-metrics.ts'
import { collectorIndex } from '../hosts/use-hosts.ts'

const windowS = 15 * 60

/** The first host; the others are one click away. */
export function HostPanel({ services }: { services: Resource<ConsoleService[]> }) {
  const collectors = (services.data ?? []).filter(
    ({ path, isConfigured }) => isConfigured && collectorIndex(path) !== null,
  )
  const first = collectors[0]
  // Without the list of services the first collector is still the best guess, and the charts need not wait for it.
  if (services.data && !first)
    return (
      <section className="panel">
        <Empty title="No host is watched" command="bin/metrics-collector -config configs/config.yaml">
          Start a collector and name it in <code>PURSER_COLLECTORS</code>; <code>npm start</code> does both.
        </Empty>
      </section>
    )
  return <Charts index={first ? (collectorIndex(first.path) ?? 0) : 0} others={Math.max(0, collectors.length - 1)} />
}

function Charts({ index, others }: { index: number; others: number }) {
  const { seed, tables, stream } = useHostMetrics(index, windowS)
  const facts = useHostFacts(index)
  const isEmpty = seed.data !== null && tables.cpu.times.length === 0 && tables.memory.times.length === 0
  return (
    <section className="group" aria-label="Host" data-testid="host-panel">
      <header className="group-head">
        <h2>
          <Link to={{ screen: 'hosts', host: index, range: '' }}>
            {facts.data?.name || 'This host'} <Icon name="chevron" size={12} />
          </Link>
        </h2>
        <span className="quiet">
          last 15 minutes{others > 0 && ` · ${others} more ${others === 1 ? 'host' : 'hosts'}`}
        </span>
        <LiveMark state={stream} />
      </header>
      {seed.error && seed.data === null ? (
        <div className="panel">
          <Failure error={seed.error} retry={seed.reload} />
        </div>
      ) : (
        <div data-loading={seed.isLoading || undefined} data-empty={isEmpty || undefined}>
          <HostCharts tables={tables} windowS={windowS} height={104} facts={facts.data} isCompact />
        </div>
      )}
    </section>
  )
}

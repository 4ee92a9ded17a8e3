import './overview.css'
import { useServices } from '../hosts/use-hosts.ts'
import { BuildsPanel } from './builds-panel.tsx'
import { CallsPanel } from './calls-panel.tsx'
import { HostPanel } from './host-panel.tsx'
import { LogPanel } from './log-panel.tsx'
import { ServiceStrip } from './service-strip.tsx'
import { SpendPanel } from './spend-panel.tsx'
import { UsagePanel } from './usage-panel.tsx'

/** Everything that is worth one look, each part on its own: what is away does not take the rest with it. */
export function Overview() {
  const services = useServices()
  return (
    <div className="screen overview">
      <header className="screen-head">
        <h1>Overview</h1>
      </header>
      <ServiceStrip services={services} />
      <HostPanel services={services} />
      <div className="overview-grid">
        <LogPanel />
        <SpendPanel />
        <CallsPanel />
        <BuildsPanel />
        <UsagePanel />
      </div>
    </div>
  )
}

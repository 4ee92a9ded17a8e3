import './logs.css'
import { useCurrentInView } from '../../parts/use-current-in-view.ts'
import { Link } from '../../router/navigation.tsx'
import { type LogsTab, logsTabs, type Route } from '../../router/route.ts'
import { AlertsTab } from './alerts-tab.tsx'
import { DataTab } from './data-tab.tsx'
import { ErrorsTab } from './errors-tab.tsx'
import { IntakeTab } from './intake-tab.tsx'
import { PatternsTab } from './patterns-tab.tsx'
import { QuarantineTab } from './quarantine-tab.tsx'
import { SearchTab } from './search-tab.tsx'

type LogsRoute = Extract<Route, { screen: 'logs' }>

const tabLabels: Record<LogsTab, string> = {
  search: 'Search',
  patterns: 'Patterns',
  intake: 'Intake',
  quarantine: 'Quarantine',
  alerts: 'Alerts',
  data: 'Data',
  errors: 'Errors',
}

export function Logs({ route }: { route: LogsRoute }) {
  const tabs = useCurrentInView<HTMLElement>(route.tab)
  return (
    <div className="screen logs">
      <header className="screen-head">
        <h1>Logs</h1>
        <nav ref={tabs} className="tab-bar" aria-label="Log screens">
          {logsTabs.map(tab => (
            <Link key={tab} to={{ ...route, tab, isLive: false }} aria-current={route.tab === tab ? 'page' : undefined}>
              {tabLabels[tab]}
            </Link>
          ))}
        </nav>
      </header>
      <Tab route={route} />
    </div>
  )
}

function Tab({ route }: { route: LogsRoute }) {
  switch (route.tab) {
    case 'search':
      return <SearchTab route={route} />
    case 'patterns':
      return <PatternsTab route={route} />
    case 'intake':
      return <IntakeTab />
    case 'quarantine':
      return <QuarantineTab />
    case 'alerts':
      return <AlertsTab />
    case 'data':
      return <DataTab />
    case 'errors':
      return <ErrorsTab />
  }
}

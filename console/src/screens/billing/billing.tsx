import './billing.css'
import { useCurrentInView } from '../../parts/use-current-in-view.ts'
import { Link } from '../../router/navigation.tsx'
import { type BillingRoute, type BillingTab, billingRoute, billingTabs } from '../../router/route.ts'
import { AlertsTab } from './alerts-tab.tsx'
import { CloseTab } from './close-tab.tsx'
import { CustomerPage } from './customer-page.tsx'
import { CustomersTab } from './customers-tab.tsx'
import { EventsTab } from './events-tab.tsx'
import { InvoicePage } from './invoice-page.tsx'
import { InvoicesTab } from './invoices-tab.tsx'
import { MetersTab } from './meters-tab.tsx'
import { OverviewTab } from './overview-tab.tsx'
import { PlanPage } from './plan-page.tsx'
import { PlansTab } from './plans-tab.tsx'
import { QuarantineTab } from './quarantine-tab.tsx'
import { VmPage } from './vm-page.tsx'

const tabLabels: Record<BillingTab, string> = {
  overview: 'Overview',
  customers: 'Customers',
  meters: 'Meters',
  events: 'Events',
  plans: 'Plans',
  invoices: 'Invoices',
  close: 'Close',
  quarantine: 'Quarantine',
  alerts: 'Alerts',
}

/** From measured usage to exact invoices: what customers used, what it costs, and what keeps a month open. */
export function Billing({ route }: { route: BillingRoute }) {
  const tabs = useCurrentInView<HTMLElement>(route.tab)
  return (
    <div className="screen billing">
      <header className="screen-head">
        <h1>Billing</h1>
        <nav ref={tabs} className="tab-bar" aria-label="Billing screens">
          {billingTabs.map(tab => (
            <Link key={tab} to={billingRoute(tab)} aria-current={route.tab === tab ? 'page' : undefined}>
              {tabLabels[tab]}
            </Link>
          ))}
        </nav>
      </header>
      <Tab route={route} />
    </div>
  )
}

function Tab({ route }: { route: BillingRoute }) {
  const { tab, id, vm } = route
  switch (tab) {
    case 'overview':
      return <OverviewTab />
    case 'customers':
      if (id === '') return <CustomersTab />
      return vm === '' ? <CustomerPage key={id} route={route} /> : <VmPage key={`${id} ${vm}`} route={route} />
    case 'meters':
      return <MetersTab route={route} />
    case 'events':
      return <EventsTab />
    case 'plans':
      return id === '' ? <PlansTab /> : <PlanPage key={id} route={route} />
    case 'invoices':
      return id === '' ? <InvoicesTab /> : <InvoicePage key={id} route={route} />
    case 'close':
      return <CloseTab route={route} />
    case 'quarantine':
      return <QuarantineTab />
    case 'alerts':
      return <AlertsTab />
  }
}

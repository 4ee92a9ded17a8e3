// Every address the console understands, both ways. Screens never build a path by hand, so a deep link, a back button
// and a link on a page cannot disagree.

export const base = '/dashboard'

export type Route =
  | { screen: 'overview' }
  | { screen: 'hosts'; host: number | null; range: string }
  | { screen: 'logs'; tab: LogsTab; query: string; range: string; from: string; to: string; isLive: boolean }
  | { screen: 'spend'; tenant: number | null; tab: SpendTab }
  | BillingRoute
  | { screen: 'builds'; build: string; tenant: string }
  | { screen: 'settings' }
  | { screen: 'unknown'; path: string }

/** `id` names what the tab shows one of: a customer, a meter, a plan, an invoice, a month to close. */
export interface BillingRoute {
  screen: 'billing'
  tab: BillingTab
  id: string
  /** A VM of the customer `id`. */
  vm: string
  /** Which billing period, `2026-11`; empty for the running one. */
  period: string
  /** A line of the invoice `id`, explained beside it. */
  line: string
}

export type Screen = Route['screen']
export const logsTabs = ['search', 'patterns', 'intake', 'quarantine', 'alerts', 'data', 'errors'] as const
export type LogsTab = (typeof logsTabs)[number]
export const spendTabs = ['budgets', 'ledger', 'holds', 'keys'] as const
export type SpendTab = (typeof spendTabs)[number]
export const billingTabs = [
  'overview',
  'customers',
  'meters',
  'events',
  'plans',
  'invoices',
  'close',
  'quarantine',
  'alerts',
] as const
export type BillingTab = (typeof billingTabs)[number]

/** Paths of older consoles that people have bookmarked, and the screen that answers them now. */
const olderPaths: Record<string, Route> = {
  'usage-insights': { screen: 'spend', tenant: null, tab: 'budgets' },
  'usage-tracking': { screen: 'spend', tenant: null, tab: 'ledger' },
  sessions: { screen: 'spend', tenant: null, tab: 'ledger' },
  'admin/tenants': { screen: 'spend', tenant: null, tab: 'budgets' },
  'admin/tags': { screen: 'spend', tenant: null, tab: 'budgets' },
  models: { screen: 'spend', tenant: null, tab: 'ledger' },
}

export function parseRoute(pathname: string, search: string): Route {
  const path = pathname.startsWith(base) ? pathname.slice(base.length) : pathname
  const parts = path.split('/').filter(Boolean).map(decode)
  const params = new URLSearchParams(search)
  const [screen = '', second = '', third = '', fourth = ''] = parts
  const older = olderPaths[parts.join('/')]
  if (older) return older
  if (parts.length > (screen === 'billing' ? 4 : 2)) return { screen: 'unknown', path: pathname }
  switch (screen) {
    case '':
      return { screen: 'overview' }
    case 'hosts':
      return { screen: 'hosts', host: index(second), range: params.get('range') ?? '' }
    case 'logs':
      return {
        screen: 'logs',
        tab: logsTabs.find(tab => tab === second) ?? 'search',
        query: params.get('q') ?? '',
        range: params.get('range') ?? '',
        from: params.get('from') ?? '',
        to: params.get('to') ?? '',
        isLive: params.get('live') === '1',
      }
    case 'spend':
      return { screen: 'spend', tenant: index(second), tab: spendTab(params.get('tab')) }
    case 'billing':
      return billingRoute(billingTabs.find(tab => tab === second) ?? 'overview', {
        id: third,
        vm: fourth,
        period: params.get('period') ?? '',
        line: params.get('line') ?? '',
      })
    // Where usage was before billing had a screen.
    case 'usage':
      return billingRoute('customers', { id: params.get('customer') ?? '', period: params.get('period') ?? '' })
    case 'builds':
      return { screen: 'builds', build: second, tenant: params.get('tenant') ?? '' }
    case 'settings':
      return { screen: 'settings' }
    default:
      return { screen: 'unknown', path: pathname }
  }
}

export function formatRoute(route: Route): string {
  switch (route.screen) {
    case 'overview':
      return `${base}/`
    case 'hosts':
      return address(['hosts', route.host], { range: route.range })
    case 'logs':
      return address(['logs', route.tab === 'search' ? '' : route.tab], {
        q: route.query,
        range: route.range,
        from: route.from,
        to: route.to,
        live: route.isLive ? '1' : '',
      })
    case 'spend':
      return address(['spend', route.tenant], { tab: route.tab === 'budgets' ? '' : route.tab })
    case 'billing':
      return address(['billing', route.tab === 'overview' ? '' : route.tab, route.id, route.vm], {
        period: route.period,
        line: route.line,
      })
    case 'builds':
      return address(['builds', route.build], { tenant: route.tenant })
    case 'settings':
      return address(['settings'], {})
    case 'unknown':
      return route.path
  }
}

/** The Logs screen with a query, from anywhere. */
export function logsRoute(query: string): Route {
  return { screen: 'logs', tab: 'search', query, range: '', from: '', to: '', isLive: false }
}

/** A tab of the billing screen; what is not named is not chosen. */
export function billingRoute(
  tab: BillingTab,
  o: Partial<Pick<BillingRoute, 'id' | 'vm' | 'period' | 'line'>> = {},
): BillingRoute {
  return { screen: 'billing', tab, id: '', vm: '', period: '', line: '', ...o }
}

function address(parts: readonly (string | number | null)[], params: Record<string, string>): string {
  const path = parts.filter(part => part !== null && part !== '').map(part => encodeURIComponent(String(part)))
  const search = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== '')).toString()
  return `${base}/${path.join('/')}${search && `?${search}`}`
}

function spendTab(text: string | null): SpendTab {
  return spendTabs.find(tab => tab === text) ?? 'budgets'
}

function index(text: string): number | null {
  return /^\d{1,9}$/.test(text) ? Number(text) : null
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

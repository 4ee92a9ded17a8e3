import { useEffect } from 'react'
import type { Me } from '../../../services/budgetguard/api.ts'
import { isLogsAlone } from '../api/served-by.ts'
import { Icon, type IconName, Mark } from '../parts/icon.tsx'
import { Link, useRoute } from '../router/navigation.tsx'
import { billingRoute, logsRoute, type Route, type Screen } from '../router/route.ts'
import { Billing } from './billing/billing.tsx'
import { Builds } from './builds/builds.tsx'
import { Hosts } from './hosts/hosts.tsx'
import { Logs } from './logs/logs.tsx'
import { Overview } from './overview/overview.tsx'
import { Settings } from './settings.tsx'
import { Spend } from './spend/spend.tsx'

interface Place {
  screen: Screen
  label: string
  icon: IconName
  to: Route
}

const allPlaces: readonly Place[] = [
  { screen: 'overview', label: 'Overview', icon: 'overview', to: { screen: 'overview' } },
  { screen: 'hosts', label: 'Hosts', icon: 'hosts', to: { screen: 'hosts', host: null, range: '' } },
  {
    screen: 'logs',
    label: 'Logs',
    icon: 'logs',
    to: { screen: 'logs', tab: 'search', query: '', range: '', from: '', to: '', isLive: false },
  },
  { screen: 'spend', label: 'Spend', icon: 'spend', to: { screen: 'spend', tenant: null, tab: 'budgets' } },
  { screen: 'billing', label: 'Billing', icon: 'billing', to: billingRoute('overview') },
  { screen: 'builds', label: 'Builds', icon: 'builds', to: { screen: 'builds', build: '', tenant: '' } },
  { screen: 'settings', label: 'Settings', icon: 'settings', to: { screen: 'settings' } },
]
const places = isLogsAlone ? allPlaces.filter(place => place.screen === 'logs') : allPlaces
/** What fits in a phone's bottom bar; the rest is behind "More". */
const onPhone = 4

export function Shell({ me, signOut }: { me: Me; signOut: () => Promise<void> }) {
  const asked = useRoute()
  // Any other address leads to what there is.
  const route = isLogsAlone && asked.screen !== 'logs' ? logsRoute('') : asked
  const here = places.find(place => place.screen === route.screen)
  useEffect(() => {
    document.title = here ? `${here.label} · Purser` : 'Purser'
  }, [here])

  return (
    <div className="shell">
      <a className="skip" href="#content">
        Skip to content
      </a>
      <nav className="rail" aria-label="Screens">
        <Link to={places[0]?.to ?? { screen: 'overview' }} className="brand" aria-label="Purser, overview">
          <Mark size={26} />
          <span>Purser</span>
        </Link>
        <ul>
          {places.map(place => (
            <li key={place.screen}>
              <PlaceLink place={place} isHere={place === here} />
            </li>
          ))}
        </ul>
        <button type="button" className="rail-foot" onClick={signOut} title={`Signed in as ${me.role}. Sign out.`}>
          <Icon name="out" />
          <span>Sign out</span>
        </button>
      </nav>
      <main id="content" className="content" tabIndex={-1} key={route.screen}>
        <ScreenOf route={route} me={me} signOut={signOut} />
      </main>
      <nav className="tabs" aria-label="Screens">
        {places.slice(0, onPhone).map(place => (
          <PlaceLink key={place.screen} place={place} isHere={place === here} />
        ))}
        <button
          type="button"
          popoverTarget="more-places"
          aria-current={places.slice(onPhone).some(place => place === here) ? 'page' : undefined}
        >
          <Icon name="more" size={18} />
          <span>More</span>
        </button>
        <div id="more-places" popover="auto" className="more-places">
          {places.slice(onPhone).map(place => (
            <PlaceLink
              key={place.screen}
              place={place}
              isHere={place === here}
              onClick={() => document.getElementById('more-places')?.hidePopover()}
            />
          ))}
        </div>
      </nav>
    </div>
  )
}

function PlaceLink({ place, isHere, onClick }: { place: Place; isHere: boolean; onClick?: (() => void) | undefined }) {
  return (
    <Link
      to={place.to}
      className="place"
      aria-current={isHere ? 'page' : undefined}
      title={place.label}
      onClick={onClick}
    >
      <Icon name={place.icon} size={18} />
      <span>{place.label}</span>
    </Link>
  )
}

function ScreenOf({ route, me, signOut }: { route: Route; me: Me; signOut: () => Promise<void> }) {
  switch (route.screen) {
    case 'overview':
      return <Overview />
    case 'hosts':
      return <Hosts route={route} />
    case 'logs':
      return <Logs route={route} />
    case 'spend':
      return <Spend route={route} />
    case 'billing':
      return <Billing route={route} />
    case 'builds':
      return <Builds route={route} />
    case 'settings':
      return <Settings me={me} signOut={signOut} />
    case 'unknown':
      return (
        <div className="nowhere">
          <h1>There is no screen here</h1>
          <p>
            <code>{route.path}</code> is not an address of this console.
          </p>
          <Link to={{ screen: 'overview' }} className="button">
            Go to the overview
          </Link>
        </div>
      )
  }
}

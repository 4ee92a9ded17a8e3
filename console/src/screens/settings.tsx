import './settings.css'
import type { Me } from '../../../services/budgetguard/api.ts'
import type { Service } from '../api/http.ts'
import { serviceUrl } from '../api/service-url.ts'
import { useNow } from '../live/clock.ts'
import { Choice } from '../parts/choice.tsx'
import { Loaded, Panel } from '../parts/panel.tsx'
import { chooseTheme, themes, useTheme } from '../theme.ts'
import { formatDuration } from '../units/duration.ts'
import { formatRelative, parseMoment } from '../units/time.ts'
import { useServices } from './hosts/use-hosts.ts'
import { sorted, statusWords } from './overview/service-strip.tsx'

const themeLabels = { system: 'System', light: 'Light', dark: 'Dark' }

export function Settings({ me, signOut }: { me: Me; signOut: () => Promise<void> }) {
  const theme = useTheme()
  const services = useServices()
  const nowMs = useNow()
  const expires = parseMoment(me.expiresAt)
  return (
    <div className="screen settings">
      <header className="screen-head">
        <h1>Settings</h1>
      </header>
      <Panel title="Appearance">
        <div className="setting">
          <div>
            <strong>Theme</strong>
            <p className="quiet">Kept in this browser.</p>
          </div>
          <Choice
            label="Theme"
            value={theme}
            options={themes.map(value => ({ value, label: themeLabels[value] }))}
            onChange={chooseTheme}
          />
        </div>
      </Panel>
      <Panel title="Services" testId="services">
        <Loaded resource={services}>
          {list => (
            <table className="table">
              <thead>
                <tr>
                  <th>Service</th>
                  <th>State</th>
                  <th className="c-sm">Address</th>
                  <th className="c-md">Version</th>
                  <th className="number c-md">Answers in</th>
                </tr>
              </thead>
              <tbody>
                {sorted(list).map(service => (
                  <tr key={`${service.name} ${service.path}`}>
                    <td>{service.name}</td>
                    <td>
                      <span className="status" data-status={service.status}>
                        <i className="dot" />
                        {statusWords[service.status]}
                      </span>
                      {service.detail && <p className="quiet">{service.detail}</p>}
                    </td>
                    <td className="c-sm">
                      <code>{serviceUrl(service.name as Service)}</code>
                    </td>
                    <td className="c-md quiet">{service.version ?? '–'}</td>
                    <td className="number c-md quiet">
                      {service.latencyMs === null ? '–' : formatDuration(Math.max(1, service.latencyMs))}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </Loaded>
      </Panel>
      <Panel title="Session">
        <div className="setting">
          <div>
            <strong>Signed in as {me.role}</strong>
            <p className="quiet">
              {expires === null ? 'By the admin key.' : `The session ends ${formatRelative(expires, nowMs)}.`} Purser{' '}
              {me.version}.
            </p>
          </div>
          <button type="button" className="button" onClick={signOut} data-testid="sign-out">
            Sign out
          </button>
        </div>
      </Panel>
    </div>
  )
}

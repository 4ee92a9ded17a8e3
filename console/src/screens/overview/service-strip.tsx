import type { ConsoleService } from '../../../../services/budgetguard/api.ts'
import type { Resource } from '../../live/use-resource.ts'
import { Loaded } from '../../parts/panel.tsx'
import { formatDuration } from '../../units/duration.ts'

/** The services in the order people think of them: what they see first is what they would miss first. */
const order = ['budgetguard', 'log-ingestion', 'billaged', 'builderd', 'metrics-collector']

export const statusWords: Record<ConsoleService['status'], string> = {
  ok: 'Healthy',
  degraded: 'Degraded',
  down: 'Away',
  off: 'Off',
}

export function sorted(services: readonly ConsoleService[]): ConsoleService[] {
  const rank = ({ name }: ConsoleService) => (order.indexOf(name) + order.length + 1) % (order.length + 1)
  return services.toSorted((a, b) => rank(a) - rank(b) || a.path.localeCompare(b.path))
}

export function ServiceStrip({ services }: { services: Resource<ConsoleService[]> }) {
  return (
    <section className="panel service-strip" aria-label="Services" data-testid="service-strip">
      <Loaded resource={services} skeleton={<div className="skeleton service-strip-skeleton" />}>
        {list => (
          <ul>
            {sorted(list).map(service => (
              <li
                key={`${service.name} ${service.path}`}
                data-status={service.status}
                data-testid={`service-${service.name}`}
              >
                <i className="dot" />
                <span className="service-name">{service.name}</span>
                <span className="service-status" title={service.detail ?? undefined}>
                  {statusWords[service.status]}
                  {service.status === 'ok' &&
                    service.latencyMs !== null &&
                    ` · ${formatDuration(Math.max(1, service.latencyMs))}`}
                  {service.status !== 'ok' && service.detail && ` · ${service.detail}`}
                </span>
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </section>
  )
}

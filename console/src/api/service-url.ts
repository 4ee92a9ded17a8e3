import type { Service } from './http.ts'
import { isLogsAlone } from './served-by.ts'

// Where a person's own curl reaches a service. The console itself never uses these: it goes through budgetguard.

const defaultPorts: Record<Service, number> = {
  budgetguard: 3000,
  'log-ingestion': 8080,
  billaged: 8081,
  builderd: 8082,
  'metrics-collector': 9100,
}

/** The usual port, moved by the same offset as the console's own (PURSER_PORT_OFFSET shifts all of them alike). */
export function serviceUrl(
  service: Service,
  page: { hostname: string; port: string; protocol: string } = location,
): string {
  if (service === 'budgetguard') return `${page.protocol}//${page.hostname}${page.port && `:${page.port}`}`
  if (isLogsAlone && service === 'log-ingestion')
    return `${page.protocol}//${page.hostname}${page.port && `:${page.port}`}`
  const offset = page.port === '' ? 0 : Number(page.port) - defaultPorts.budgetguard
  const port = defaultPorts[service] + offset
  return `http://${page.hostname}:${port > 0 && port < 65_536 ? port : defaultPorts[service]}`
}

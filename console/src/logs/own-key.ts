import { serviceUrl } from '../api/service-url.ts'

/** The name under which a key's value is best kept in a shell: `web shop` is WEB_SHOP. */
export function variableOf(keyName: string): string {
  const name = keyName
    .toUpperCase()
    .replaceAll(/[^A-Z0-9]+/g, '_')
    .replaceAll(/^_+|_+$/g, '')
  return /^[A-Z]/.test(name) ? name : `KEY${name && `_${name}`}`
}

/** One entry by hand; the key's value is in the variable of its name. */
export function curlEntry(keyName: string): string {
  return `curl -s ${serviceUrl('log-ingestion')}/api/v1/logs -H "X-API-Key: $${variableOf(keyName)}" \\
  -d '{"log":{"timestamp":"'$(date -u +%FT%TZ)'","service":"shop","level":"info","message":"hello"}}'`
}

/** One exception by hand. */
export function curlNotice(keyName: string): string {
  return `curl -s ${serviceUrl('log-ingestion')}/api/v1/notices -H "Authorization: $${variableOf(keyName)}" \\
  -d '{"error":{"class":"TypeError","message":"x is not a function","backtrace":[]},"server":{"environment_name":"production"}}'`
}

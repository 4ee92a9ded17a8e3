import type { ApiError } from '../../api/http.ts'
import { Icon } from '../../parts/icon.tsx'
import { navigate } from '../../router/navigation.tsx'
import { logsRoute } from '../../router/route.ts'

/** Where in the query the service stopped understanding; null when the refusal is about something else. */
export function positionOf({ status, body }: ApiError): number | null {
  return status === 400 && typeof body.position === 'number' ? body.position : null
}

/** The service's own sentence, with a caret under the place it means and the corrected example it offers. */
export function QueryProblem({ query, error }: { query: string; error: ApiError }) {
  const at = Math.min(positionOf(error) ?? 0, query.length)
  const example = typeof error.body.example === 'string' ? error.body.example : ''
  const expected = typeof error.body.expected === 'string' ? error.body.expected : ''
  return (
    <section className="panel query-problem" role="alert" data-testid="query-problem">
      <Icon name="alert" size={18} />
      <div>
        <strong>This search cannot be read</strong>
        <pre>
          {query.slice(0, at)}
          <mark>{query.slice(at, at + 1) || ' '}</mark>
          {query.slice(at + 1)}
          {'\n'}
          {' '.repeat(at)}^
        </pre>
        <p>
          {error.message.replace(/ at position \d+.*$/s, '.')}
          {expected && ` Expected ${expected}.`}
        </p>
        {example && (
          <p>
            For example{' '}
            <button type="button" className="link" onClick={() => navigate(logsRoute(example))}>
              <code>{example}</code>
            </button>
          </p>
        )}
      </div>
    </section>
  )
}

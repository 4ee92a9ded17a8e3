import type { ApiError } from '../../api/http.ts'
import { Icon } from '../../parts/icon.tsx'
import { navigate } from '../../router/navigation.tsx'
import { logsRoute } from '../../router/route.ts'

// The service's sentence ends "… at position 7; for example: level:warn". There is no member for the two, so they are
// taken from the text, and the text stays what the reader sees.
const positionText = / at position (\d{1,6})(?:; for example: (.*))?$/s

/** Where in the query the service stopped understanding; null when the refusal is about something else. */
export function positionOf(error: ApiError): number | null {
  if (error.status !== 400) return null
  const match = positionText.exec(error.message)
  return match ? Number(match[1]) : null
}

/** The service's own sentence, with a caret under the place it means and the corrected example it offers. */
export function QueryProblem({ query, error }: { query: string; error: ApiError }) {
  const at = Math.min(positionOf(error) ?? 0, query.length)
  const example = positionText.exec(error.message)?.[2] ?? ''
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
        <p>{error.message.replace(positionText, '.')}</p>
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

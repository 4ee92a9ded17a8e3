import type { ApiError, Service } from '../api/http.ts'
import { Command } from './copy.tsx'
import { Icon, type IconName } from './icon.tsx'

// A failure on a page says three things: what is not there, why as far as we know, and what to do about it.

export function Failure({ error, retry }: { error: ApiError; retry?: (() => void) | undefined }) {
  const { icon, title, advice, command } = adviceFor(error)
  return (
    <div className="failure" role="alert" data-kind={error.kind} data-testid="failure">
      <Icon name={icon} size={18} />
      <div>
        <strong>{title}</strong>
        <p>{error.message}</p>
        {advice && <p className="quiet">{advice}</p>}
        {command && <Command text={command} />}
        <div className="failure-foot">
          {retry && (
            <button type="button" className="button small" onClick={retry}>
              Try again
            </button>
          )}
          {error.reason && <code className="quiet">{error.reason}</code>}
          {error.requestId && (
            <code className="quiet" title="Request id, for the log">
              {error.requestId}
            </code>
          )}
        </div>
      </div>
    </div>
  )
}

const jobs: Record<Service, string> = {
  budgetguard: 'budgets, keys and this console',
  'log-ingestion': 'log search and live tail',
  billaged: 'usage and bills',
  builderd: 'image builds',
  'metrics-collector': 'host metrics',
}

interface Advice {
  icon: IconName
  title: string
  advice?: string
  command?: string
}

function adviceFor(error: ApiError): Advice {
  switch (error.kind) {
    case 'away':
      return {
        icon: 'plug',
        title: `${error.service} is away`,
        advice:
          error.service === 'budgetguard'
            ? 'What is on the screen stays; we try again by ourselves.'
            : `It answers for ${jobs[error.service]}. Everything else on this page goes on; we try again by ourselves.`,
        command:
          error.service === 'budgetguard'
            ? 'npm start'
            : `bin/${error.service} --validate-config && bin/${error.service}`,
      }
    case 'unimplemented':
      return {
        icon: 'plug',
        title: 'Not in this version',
        advice: `${error.service} says so itself; nothing is broken.`,
      }
    case 'forbidden':
      return { icon: 'key', title: 'Not for your role', advice: 'Sign in with a role that may, or ask an owner.' }
    case 'signed-out':
      return {
        icon: 'key',
        title: `${error.service} did not accept the call`,
        advice: 'Do all services share the same PURSER_SECRET?',
      }
    case 'missing':
      return { icon: 'search', title: 'Not found' }
    case 'busy':
      return {
        icon: 'alert',
        title: `${error.service} is busy`,
        advice: 'It asked for a pause; we try again after it.',
      }
    case 'invalid':
      return { icon: 'alert', title: 'That was refused' }
    case 'failed':
      return { icon: 'alert', title: 'Something went wrong', advice: 'The request id finds the line in the logs.' }
  }
}

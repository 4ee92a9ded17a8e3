import { type FormEvent, useState } from 'react'
import { isLogsAlone } from '../api/served-by.ts'
import { asApiError } from '../live/use-resource.ts'
import { Icon, Mark } from '../parts/icon.tsx'

export function SignIn({ notice, signIn }: { notice: string; signIn: (adminKey: string) => Promise<void> }) {
  const [key, setKey] = useState('')
  const [isShown, setIsShown] = useState(false)
  const [isSending, setIsSending] = useState(false)
  const [problem, setProblem] = useState('')

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault()
    const adminKey = key.trim()
    if (!adminKey || isSending) return
    setIsSending(true)
    setProblem('')
    try {
      await signIn(adminKey)
    } catch (cause) {
      const error = asApiError(cause)
      setProblem(
        error.kind === 'signed-out'
          ? 'That is not the admin key. Keys are compared exactly, without spaces around them.'
          : error.message,
      )
      setIsSending(false)
    }
  }

  return (
    <main className="gate">
      <form className="gate-card" onSubmit={submit} data-testid="sign-in-form">
        <div className="gate-brand">
          <Mark size={36} />
          <h1>Purser</h1>
        </div>
        {notice && (
          <p className="notice" role="status">
            {notice}
          </p>
        )}
        <label className="field">
          <span className="field-label">Admin key</span>
          <span className="input-group">
            <input
              type={isShown ? 'text' : 'password'}
              name="adminKey"
              autoComplete="current-password"
              spellCheck={false}
              autoCapitalize="off"
              // biome-ignore lint/a11y/noAutofocus: the only control of the page
              autoFocus
              value={key}
              onChange={event => setKey(event.target.value)}
              aria-invalid={problem !== ''}
              aria-describedby={problem ? 'sign-in-problem' : undefined}
              data-testid="admin-key"
            />
            <button type="button" className="link" aria-pressed={isShown} onClick={() => setIsShown(!isShown)}>
              {isShown ? 'Hide' : 'Show'}
            </button>
          </span>
        </label>
        {problem && (
          <p className="problem" role="alert" id="sign-in-problem">
            {problem}
          </p>
        )}
        <button
          type="submit"
          className="button primary wide"
          disabled={isSending || key.trim() === ''}
          data-testid="sign-in"
        >
          {isSending ? 'Signing in…' : 'Sign in'}
          <Icon name="arrow" />
        </button>
        {isLogsAlone ? (
          <p className="gate-hint">
            One of <code>LOG_INGESTION_ADMIN_API_KEYS</code>. The session lasts 12 hours; the key is not kept here.
          </p>
        ) : (
          <p className="gate-hint">
            <code>npm start</code> prints a sign-in link that needs no key, and the path of the file that holds the key:
            usually <code>.purser/budgetguard/admin-key</code>. The session lasts 12 hours; the key is not kept here.
          </p>
        )}
      </form>
    </main>
  )
}

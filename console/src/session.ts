import { useEffect, useState } from 'react'
import type { Me } from '../../services/budgetguard/api.ts'
import { getMe, signIn, signOut } from './api/budgetguard.ts'
import { type ApiError, onSignedOut } from './api/http.ts'
import { asApiError, forgetAnswers } from './live/use-resource.ts'

// checking → signed-in | signed-out | away.  signed-in → signed-out when the session ends, keeping the address, so that
// signing in again shows what was on the screen.

export type Session =
  | { status: 'checking' }
  | { status: 'signed-in'; me: Me }
  | { status: 'signed-out'; notice: string }
  | { status: 'away'; error: ApiError }

/** The one-time token of a sign-in link, taken out of the address before anything else can see it. */
let linkToken = takeLinkToken()

export function useSession() {
  const [session, setSession] = useState<Session>({ status: 'checking' })
  const [attempt, setAttempt] = useState(0)

  // biome-ignore lint/correctness/useExhaustiveDependencies: each attempt asks again
  useEffect(() => {
    const abort = new AbortController()
    establish(abort.signal).then(next => {
      if (!abort.signal.aborted) setSession(next)
    })
    return () => abort.abort()
  }, [attempt])

  useEffect(() => {
    // A link pasted into an open tab changes only the fragment and loads nothing.
    const onHash = () => {
      const token = takeLinkToken()
      if (token === null) return
      linkToken = token
      setAttempt(n => n + 1)
    }
    addEventListener('hashchange', onHash)
    return () => removeEventListener('hashchange', onHash)
  }, [])

  useEffect(() => {
    let isAsking = false
    return onSignedOut(() => {
      // A forwarded service may say 401 for reasons of its own; only /admin/me decides, and is asked once for the many
      // panels that notice at the same time.
      if (isAsking) return
      isAsking = true
      getMe()
        .catch((cause: unknown) => {
          if (asApiError(cause).kind === 'signed-out')
            setSession(before => (before.status === 'signed-in' ? ended : before))
        })
        .finally(() => {
          isAsking = false
        })
    })
  }, [])

  return {
    session,
    retry: () => setAttempt(n => n + 1),
    async signIn(adminKey: string): Promise<void> {
      const me = await signIn({ adminKey })
      setSession({ status: 'signed-in', me })
    },
    async signOut(): Promise<void> {
      await signOut().catch(() => undefined)
      forgetAnswers()
      setSession({ status: 'signed-out', notice: '' })
    },
  }
}

const ended: Session = {
  status: 'signed-out',
  notice: 'Your session has ended. Sign in again to go on where you were.',
}

/** One exchange per token, also when React mounts twice: the second would be refused. */
let exchange: Promise<Session> | null = null

async function establish(signal: AbortSignal): Promise<Session> {
  const token = linkToken
  linkToken = null
  if (token !== null)
    exchange = signIn({ token }).then(
      (me): Session => ({ status: 'signed-in', me }),
      () =>
        currentSession(
          undefined,
          'This sign-in link was used before or is older than 10 minutes. Use the admin key instead.',
        ),
    )
  const pending = exchange
  if (pending === null) return currentSession(signal, '')
  const session = await pending
  if (exchange === pending) exchange = null
  return session
}

async function currentSession(signal: AbortSignal | undefined, notice: string): Promise<Session> {
  try {
    return { status: 'signed-in', me: await getMe(signal) }
  } catch (cause) {
    const error = asApiError(cause)
    return error.kind === 'away' || error.kind === 'failed'
      ? { status: 'away', error }
      : { status: 'signed-out', notice }
  }
}

function takeLinkToken(): string | null {
  const match = /^#token=([^&]+)/.exec(location.hash)
  if (!match?.[1]) return null
  history.replaceState(null, '', location.pathname + location.search)
  return decodeURIComponent(match[1])
}

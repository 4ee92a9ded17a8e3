import { Failure } from './parts/failure.tsx'
import { Mark } from './parts/icon.tsx'
import { Shell } from './screens/shell.tsx'
import { SignIn } from './screens/sign-in.tsx'
import { useSession } from './session.ts'

export function App() {
  const { session, retry, signIn, signOut } = useSession()
  switch (session.status) {
    case 'checking':
      return (
        <main className="gate" aria-busy="true" aria-label="Opening the console">
          <Mark size={40} />
        </main>
      )
    case 'away':
      return (
        <main className="gate">
          <div className="gate-card">
            <Failure error={session.error} retry={retry} />
          </div>
        </main>
      )
    case 'signed-out':
      return <SignIn notice={session.notice} signIn={signIn} />
    case 'signed-in':
      return <Shell me={session.me} signOut={signOut} />
  }
}

import type { ReactNode } from 'react'
import { listKeys } from '../../api/logs.ts'
import { useResource } from '../../live/use-resource.ts'
import { curlEntry } from '../../logs/own-key.ts'
import { Empty } from '../../parts/empty.tsx'

/** Of the key that an installation makes for itself. */
const firstKeyName = 'write-key'

/** Nothing here yet, and the line that changes that, with the name of a key that the reader has. */
export function SendOne({
  title,
  children,
  command = curlEntry,
}: {
  title: string
  children?: ReactNode
  command?: (keyName: string) => string
}) {
  const keys = useResource('log keys', signal => listKeys(signal))
  // Neither a key nor a right to see any: the installation has its own.
  const name = keys.data?.keys.find(key => key.is_active)?.name ?? firstKeyName
  return (
    <Empty title={title} command={command(name)}>
      {children} The value of your key <code data-testid="own-key">{name}</code> goes in the place of its name
      {name === firstKeyName && (
        <>
          ; <code>npm start</code> prints it
        </>
      )}
      .
    </Empty>
  )
}

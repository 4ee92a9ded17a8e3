import type { ReactNode } from 'react'
import { Command } from './copy.tsx'

/** Nothing here yet, and the line that changes that. */
export function Empty({
  title,
  children,
  command,
  action,
}: {
  title: string
  children?: ReactNode
  command?: string
  action?: ReactNode
}) {
  return (
    <div className="empty" data-testid="empty">
      <strong>{title}</strong>
      {children && <p>{children}</p>}
      {command && <Command text={command} />}
      {action}
    </div>
  )
}

import type { Blocker } from '../../api/billing-invoices.ts'
import { mendingRoute, reasonTitle } from '../../billing/checklist.ts'
import { CopyButton } from '../../parts/copy.tsx'
import { Link } from '../../router/navigation.tsx'

/** Reasons that keep an invoice open, each with what mends it. */
export function BlockerList({ blockers }: { blockers: readonly { customerId: string; blocker: Blocker }[] }) {
  return (
    <ul className="blockers">
      {blockers.map(({ customerId, blocker }) => {
        const to = mendingRoute(blocker.code, customerId)
        return (
          <li key={`${customerId} ${blocker.code} ${blocker.detail}`} data-testid="blocker">
            <span className="chip" data-tone="warn">
              {reasonTitle(blocker.code)}
            </span>
            <span>{blocker.detail}</span>
            <span className="blocker-fix">
              <code>{blocker.fix}</code>
              <CopyButton text={blocker.fix} label="Copy what mends it" />
              {to && (
                <Link to={to} className="link">
                  Open
                </Link>
              )}
            </span>
          </li>
        )
      })}
    </ul>
  )
}

import { getUsage, listCustomers, type UsageRow } from '../../api/billaged.ts'
import { meterLabel } from '../../billing/meters.ts'
import { monthPeriod } from '../../billing/periods.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { billingRoute } from '../../router/route.ts'
import { formatQuantity } from '../../units/quantity.ts'

const customersShown = 6
const metersShown = 8

interface CustomerUsage {
  customer: string
  name: string
  rows: UsageRow[]
}

/** What each tenant used this month, as billaged measured it. */
export function UsagePanel() {
  const usage = useResource('usage by tenant', load, 15_000)
  return (
    <Panel
      className="usage-panel"
      title={
        <Link to={billingRoute('customers')}>
          Usage by tenant <Icon name="chevron" size={12} />
        </Link>
      }
      aside={monthPeriod('', Date.now()).label}
      testId="usage-panel"
    >
      <Loaded resource={usage}>
        {customers =>
          customers.length === 0 ? (
            <Empty title="Nothing used yet" command="bin/billaged-cli demo">
              Calls, builds and logs report here by themselves. To see it with three customers and a month of VMs:
            </Empty>
          ) : (
            <ul className="usage-list">
              {customers.map(({ customer, name, rows }) => (
                <li key={customer} data-testid="usage-row">
                  <Link to={billingRoute('customers', { id: customer })} className="usage-item">
                    <span className="usage-name ellipsis">{name}</span>
                    <dl>
                      {rows.slice(0, metersShown).map(row => (
                        <div key={`${row.meter} ${row.vmId ?? ''}`}>
                          <dt>{meterLabel(row.meter)}</dt>
                          <dd>{formatQuantity(row.quantity, row.unit, row.meter)}</dd>
                        </div>
                      ))}
                      {rows.length === 0 && <div className="quiet">nothing this month</div>}
                    </dl>
                  </Link>
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Panel>
  )
}

async function load(signal: AbortSignal): Promise<CustomerUsage[]> {
  const { customers } = await listCustomers(signal)
  const { from, to } = monthPeriod('', Date.now())
  return Promise.all(
    customers.slice(0, customersShown).map(async ({ id, name }) => {
      const { rows } = await getUsage(id, { from, to, by: 'meter' }, signal)
      return { customer: id, name: name || id, rows: rows.filter(({ quantity }) => quantity !== '0') }
    }),
  )
}

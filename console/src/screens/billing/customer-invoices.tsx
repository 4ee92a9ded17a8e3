import type { Customer } from '../../api/billaged.ts'
import { listInvoices } from '../../api/billing-invoices.ts'
import { runningPeriod } from '../../billing/periods.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { InvoiceRows } from './invoices-tab.tsx'

export function CustomerInvoices({ customer }: { customer: Customer }) {
  const invoices = useResource(
    `invoices of ${customer.id}`,
    signal => listInvoices({ customer: customer.id, limit: 24 }, signal),
    30_000,
  )
  return (
    <Panel title="Invoices" testId="customer-invoices">
      <Loaded resource={invoices}>
        {({ invoices: list }) =>
          list.length === 0 ? (
            <Empty
              title="No invoice yet"
              command={`bin/billaged close ${runningPeriod(customer, Date.now()).key} --customer ${customer.id} --dry-run`}
            >
              A period closes by itself a day after its end. What it would say now:
            </Empty>
          ) : (
            <InvoiceRows invoices={list} hasCustomer={false} />
          )
        }
      </Loaded>
    </Panel>
  )
}

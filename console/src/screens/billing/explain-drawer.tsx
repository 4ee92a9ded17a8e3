import { Fragment, useState } from 'react'
import { type Explanation, explainLine, type Invoice, type InvoiceLineView } from '../../api/billing-invoices.ts'
import { meterLabel, unitOfMeter, unitsOf } from '../../billing/meters.ts'
import { useResource } from '../../live/use-resource.ts'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, SkeletonRows } from '../../parts/panel.tsx'
import { formatCount } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatMoneyExact, nanoFrom } from '../../units/money.ts'
import { formatQuantity } from '../../units/quantity.ts'
import { formatDay, formatMinute } from '../../units/time.ts'
import { Bars } from './bars.tsx'
import { Drawer } from './drawer.tsx'
import { priceText } from './price-text.ts'

interface ExplainProps {
  invoice: Invoice
  line: InvoiceLineView
  zone: string
  onClose: () => void
}

/** From an amount to the division that made it, to the VMs, to each VM's hours and the digests of their readings. */
export function ExplainDrawer({ invoice, line, zone, onClose }: ExplainProps) {
  // A draft has no stored lines to explain; what it is made of is what it shows.
  const isStored = invoice.state !== 'draft'
  const explained = useResource(isStored ? `explain ${line.id}` : null, signal =>
    explainLine(invoice.id, line.id, '', signal),
  )
  const title = line.meter ? meterLabel(line.meter) : line.description
  return (
    <Drawer label={`Explanation of ${title}`} title={title} onClose={onClose}>
      <Arithmetic
        line={line}
        currency={invoice.currency}
        price={explained.data?.price}
        plan={explained.data?.plan ?? null}
      />
      {isStored ? (
        <Loaded resource={explained} skeleton={<SkeletonRows rows={6} />}>
          {one => (
            <>
              {one.vms && <Vms explained={one} invoiceId={invoice.id} zone={zone} />}
              {one.events && <Events events={one.events} />}
              <Evidence explained={one} />
            </>
          )}
        </Loaded>
      ) : (
        <p className="panel-note quiet">
          A draft is computed when it is looked at; its hours are proven, hashed and kept when it is finalised.
        </p>
      )}
    </Drawer>
  )
}

function Arithmetic({
  line,
  currency,
  price,
  plan,
}: {
  line: InvoiceLineView
  currency: string
  price: unknown
  plan: Explanation['plan']
}) {
  // Invoices of an earlier version do not say it.
  const unit = line.unit ?? (line.meter ? unitOfMeter(line.meter) : '')
  const amount = nanoFrom(line.amountNano)
  const billed = nanoFrom(line.billedNano)
  return (
    <section className="explain-part" data-testid="explain-arithmetic">
      <strong className="amount">{formatMoneyExact(amount, currency)}</strong>
      <dl className="explain-facts">
        {line.plan && (
          <>
            <dt>Price</dt>
            <dd>
              <code>{line.priceId}</code> of {line.plan.id} v{line.plan.version}
              {plan && `, from ${formatDay(Date.parse(plan.effectiveFrom), 'UTC')}`}
              {price !== undefined && price !== null && <div>{priceText(price, unit, line.meter ?? '', currency)}</div>}
            </dd>
          </>
        )}
        {line.meter && (
          <>
            <dt>Quantity</dt>
            <dd>
              {formatQuantity(line.quantity, unit, line.meter)}
              <div className="exact">
                {line.quantity} {unit}
              </div>
            </dd>
          </>
        )}
        {line.freeQuantity !== '0' && (
          <>
            <dt>Free of it</dt>
            <dd>{formatQuantity(line.freeQuantity, unit, line.meter ?? '')}</dd>
          </>
        )}
        {line.tiers.length > 0 && (
          <>
            <dt>Tiers</dt>
            <dd>
              <ol className="tier-lines">
                {line.tiers.map(tier => (
                  <li key={tier.tier}>
                    <span>
                      {formatQuantity(tier.quantity, unit, line.meter ?? '')}
                      {tier.upTo !== null && (
                        <span className="quiet"> up to {formatQuantity(tier.upTo, unit, line.meter ?? '')}</span>
                      )}
                    </span>
                    <span>
                      at {formatMoneyExact(nanoFrom(tier.amountNano), currency)} a{' '}
                      {unitsOf(unit, line.meter ?? '')[0].name}
                      {tier.flatNano !== '0' && ` + ${formatMoneyExact(nanoFrom(tier.flatNano), currency)}`}
                    </span>
                  </li>
                ))}
              </ol>
            </dd>
          </>
        )}
        <dt>Floor</dt>
        <dd className="exact" data-testid="explain-division">
          {line.dividend} ÷ {line.divisor} = {`${amount + billed}`} rem {line.remainder}
          {billed !== 0n && (
            <div>
              − {`${billed}`} billed before = {`${amount}`}
            </div>
          )}
        </dd>
        {line.adjusts && (
          <>
            <dt>Corrects</dt>
            <dd className="exact">{line.adjusts}</dd>
          </>
        )}
        <dt>Line</dt>
        <dd className="exact">{line.id}</dd>
      </dl>
    </section>
  )
}

function Vms({ explained, invoiceId, zone }: { explained: Explanation; invoiceId: string; zone: string }) {
  const [open, setOpen] = useState<string | null>(null)
  const { line, plan } = explained
  const meter = line.meter ?? ''
  const unit = line.unit ?? unitOfMeter(meter)
  const vms = explained.vms ?? []
  const hours = vms.reduce((sum, vm) => sum + vm.hours, 0)
  return (
    <section className="explain-part">
      <h3>
        {formatCount(vms.length)} {vms.length === 1 ? 'VM' : 'VMs'}, {formatCount(hours)} hours
      </h3>
      <table className="table">
        <thead>
          <tr>
            <th>VM</th>
            <th className="number">Quantity</th>
            <th className="c-sm">Not billed</th>
          </tr>
        </thead>
        <tbody>
          {vms.map(vm => (
            <Fragment key={vm.vmId}>
              <tr data-testid="explain-vm" data-open={open === vm.vmId || undefined}>
                <td>
                  <button
                    type="button"
                    className="row-toggle"
                    aria-expanded={open === vm.vmId}
                    onClick={() => setOpen(open === vm.vmId ? null : vm.vmId)}
                  >
                    <Icon name="chevron" size={12} />
                    {vm.vmId}
                  </button>
                </td>
                <td className="number" title={`${vm.quantity} ${unit}`}>
                  {formatQuantity(vm.quantity, unit, meter)}
                </td>
                <td className="c-sm quiet-wrap">{notBilled(vm, plan?.gapPolicy ?? 'zero')}</td>
              </tr>
              {open === vm.vmId && (
                <tr className="row-detail">
                  <td colSpan={3}>
                    <Hours invoiceId={invoiceId} line={line} vm={vm.vmId} unit={unit} meter={meter} zone={zone} />
                  </td>
                </tr>
              )}
            </Fragment>
          ))}
        </tbody>
      </table>
    </section>
  )
}

type ExplainedVm = NonNullable<Explanation['vms']>[number]

function notBilled({ notBilled: left, estimatedNs, rules }: ExplainedVm, policy: string): string {
  const ms = (ns: string) => Number(BigInt(ns) / 1_000_000n)
  const parts = [
    ms(left.unmeasuredNs) > 0 ? `${formatDuration(ms(left.unmeasuredNs))} unmeasured` : '',
    ms(left.hostDownNs) > 0 ? `${formatDuration(ms(left.hostDownNs))} host down` : '',
    ms(left.disputedNs) > 0 ? `${formatDuration(ms(left.disputedNs))} disputed` : '',
    ms(estimatedNs) > 0 ? `${formatDuration(ms(estimatedNs))} estimated` : '',
  ].filter(part => part !== '')
  return parts.length === 0 ? '–' : `${parts.join(', ')} (${[...rules, `policy ${policy}`].join('; ')})`
}

/** Hours listed with their digests; the bars above show all. */
const hoursListed = 48

function Hours({
  invoiceId,
  line,
  vm,
  unit,
  meter,
  zone,
}: {
  invoiceId: string
  line: InvoiceLineView
  vm: string
  unit: string
  meter: string
  zone: string
}) {
  const [isAll, setIsAll] = useState(false)
  const explained = useResource(`explain ${line.id} ${vm}`, signal => explainLine(invoiceId, line.id, vm, signal))
  return (
    <Loaded resource={explained} skeleton={<SkeletonRows rows={3} />}>
      {({ hours: all }) => {
        const hours = all ?? []
        if (hours.length === 0) return <p className="quiet">No hour of it is in the evidence.</p>
        const { per } = unitsOf(unit, meter)[0]
        return (
          <>
            <Bars
              label={`${vm} by hour`}
              startsMs={hours.map(({ from }) => Date.parse(from))}
              // Heights only; thousandths of the unit are finer than a pixel.
              values={hours.map(({ quantity }) => Number((BigInt(quantity) * 1000n) / per) / 1000)}
              texts={hours.map(({ quantity }) => formatQuantity(quantity, unit, meter))}
              format={value => value.toFixed(2)}
              zone={zone}
              height={64}
            />
            <table className="table hours-table">
              <thead>
                <tr>
                  <th>Hour, {zone}</th>
                  <th className="number">Quantity</th>
                  <th className="number c-sm">Readings</th>
                  <th className="c-md">Digest</th>
                </tr>
              </thead>
              <tbody>
                {hours.slice(0, isAll ? hours.length : hoursListed).map(({ from, samples, digest, quantity }) => (
                  <tr key={from} data-testid="explain-hour">
                    <td className="time">
                      {formatDay(Date.parse(from), zone)} {formatMinute(Date.parse(from), zone)}
                    </td>
                    <td className="number" title={`${quantity} ${unit}`}>
                      {formatQuantity(quantity, unit, meter)}
                    </td>
                    <td className="number c-sm">{formatCount(samples)}</td>
                    <td className="c-md">
                      <code title={digest}>{digest.slice(0, 16)}…</code>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
            {hours.length > hoursListed && (
              <button type="button" className="link" onClick={() => setIsAll(!isAll)}>
                {isAll ? 'Show fewer' : `Show all ${formatCount(hours.length)} hours`}
              </button>
            )}
          </>
        )
      }}
    </Loaded>
  )
}

function Events({ events }: { events: NonNullable<Explanation['events']> }) {
  return (
    <section className="explain-part">
      <h3>Events of the segment</h3>
      {events.length === 0 ? (
        <p className="quiet">None is in the evidence.</p>
      ) : (
        <table className="table">
          <tbody>
            {events.map(({ type, count, digest }) => (
              <tr key={`${type} ${digest}`}>
                <td>
                  <code>{type}</code>
                </td>
                <td className="number">{formatCount(count)}</td>
                <td className="c-sm">
                  <code title={digest}>{digest.slice(0, 16)}…</code>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  )
}

function Evidence({ explained: { evidence, receipt } }: { explained: Explanation }) {
  if (evidence === null || receipt === null) return null
  return (
    <section className="explain-part">
      <h3>Evidence</h3>
      <dl className="explain-facts">
        <dt>Leaves</dt>
        <dd>{formatCount(evidence.leaves)}</dd>
        <dt>Merkle root</dt>
        <dd className="exact">{evidence.root}</dd>
        <dt>Receipt</dt>
        <dd className="exact">
          #{receipt.seq} {receipt.hash}
        </dd>
        <dt>Chained to</dt>
        <dd className="exact">{receipt.prevHash}</dd>
      </dl>
    </section>
  )
}

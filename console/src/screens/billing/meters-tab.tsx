import { useState } from 'react'
import { createMeter, listMeters, type Meter, type MeterInput } from '../../api/billing-meters.ts'
import { meterLabel } from '../../billing/meters.ts'
import { useResource } from '../../live/use-resource.ts'
import { ActionForm, Dialog, Field } from '../../parts/dialog.tsx'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel, SkeletonRows } from '../../parts/panel.tsx'
import { useCurrentInView } from '../../parts/use-current-in-view.ts'
import { Link, navigate } from '../../router/navigation.tsx'
import { type BillingRoute, billingRoute } from '../../router/route.ts'
import { MeterQueryPanel } from './meter-query.tsx'

/** What is counted, and what the counting came to. */
export function MetersTab({ route }: { route: BillingRoute }) {
  const meters = useResource('meters', listMeters, 30_000)
  const [isCreating, setIsCreating] = useState(false)
  return (
    <Loaded resource={meters} skeleton={<SkeletonRows rows={8} />}>
      {list => {
        const chosen = list.find(({ slug }) => slug === route.id) ?? (route.id === '' ? list[0] : undefined)
        return (
          <div className="split">
            <MeterList meters={list} chosen={chosen?.slug ?? ''} onNew={() => setIsCreating(true)} />
            <div className="split-detail">
              {chosen ? (
                <>
                  <MeterQueryPanel key={chosen.slug} meter={chosen} name={nameOf(chosen)} />
                  <Definition meter={chosen} />
                </>
              ) : (
                <section className="panel">
                  <Empty title="No such meter">
                    <code>{route.id}</code> is not a meter here.
                  </Empty>
                </section>
              )}
            </div>
            {isCreating && <NewMeter onClose={() => setIsCreating(false)} onCreated={meters.reload} />}
          </div>
        )
      }}
    </Loaded>
  )
}

function MeterList({ meters, chosen, onNew }: { meters: readonly Meter[]; chosen: string; onNew: () => void }) {
  const row = useCurrentInView<HTMLElement>(chosen)
  return (
    <nav ref={row} className="panel split-list" aria-label="Meters" data-testid="meters">
      {meters.map(meter => (
        <Link
          key={meter.slug}
          to={billingRoute('meters', { id: meter.slug })}
          className="tenant-link"
          aria-current={meter.slug === chosen ? 'page' : undefined}
        >
          <span className="budget-name ellipsis">{nameOf(meter)}</span>
          <span className="budget-amounts quiet">{meter.aggregation.toLowerCase().replace('_', ' ')}</span>
        </Link>
      ))}
      <button type="button" className="button small wide-add" onClick={onNew} data-testid="new-meter">
        <Icon name="plus" size={14} />
        New meter
      </button>
    </nav>
  )
}

function nameOf({ slug, name }: Meter): string {
  return name === slug ? meterLabel(slug) : name
}

function Definition({ meter }: { meter: Meter }) {
  const groups = Object.entries(meter.groupBy)
  return (
    <Panel title="How it counts" testId="meter-definition">
      <dl className="facts">
        <div>
          <dt>Slug, in prices</dt>
          <dd>
            <code>{meter.slug}</code>
          </dd>
        </div>
        <div>
          <dt>Counts</dt>
          <dd>{meter.eventType === 'vm' ? 'readings of VMs' : <code>{meter.eventType}</code>}</dd>
        </div>
        <div>
          <dt>Aggregation</dt>
          <dd>
            {meter.aggregation} {meter.valueProperty && <code>&nbsp;{meter.valueProperty}</code>}
          </dd>
        </div>
        <div>
          <dt>Base unit</dt>
          <dd>{meter.unit || '1'}</dd>
        </div>
        <div>
          <dt>Groups</dt>
          <dd>{groups.length === 0 ? 'none' : groups.map(([name]) => name).join(', ')}</dd>
        </div>
      </dl>
    </Panel>
  )
}

const aggregations: readonly Meter['aggregation'][] = [
  'SUM',
  'COUNT',
  'UNIQUE_COUNT',
  'MIN',
  'MAX',
  'LATEST',
  'AVG',
  'WEIGHTED_SUM',
]

function NewMeter({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [slug, setSlug] = useState('')
  const [eventType, setEventType] = useState('')
  const [aggregation, setAggregation] = useState<Meter['aggregation']>('SUM')
  const [valueProperty, setValueProperty] = useState('$.value')
  const [groups, setGroups] = useState('')
  const [unit, setUnit] = useState('')
  const groupBy = Object.fromEntries(
    groups
      .split(/[,\s]+/)
      .filter(name => name !== '')
      .map(name => [name, `$.${name}`]),
  )
  const blocked = !/^[a-z0-9_]{1,63}$/.test(slug)
    ? 'The slug takes 1 to 63 of a-z, 0-9 and _'
    : eventType.trim() === ''
      ? 'Which type of event does it count?'
      : ''
  return (
    <Dialog title="New meter" onClose={onClose}>
      <ActionForm
        submit="Create meter"
        blocked={blocked}
        onSubmit={async () => {
          const body: MeterInput = {
            slug,
            aggregation,
            eventType: eventType.trim(),
            groupBy,
            ...(aggregation === 'COUNT' ? {} : { valueProperty }),
            ...(unit.trim() === '' ? {} : { unit: unit.trim() }),
          }
          await createMeter(body)
          onCreated()
          onClose()
          navigate(billingRoute('meters', { id: slug }))
        }}
      >
        <Field label="Slug" hint="Prices name it; it never changes.">
          <input value={slug} onChange={event => setSlug(event.target.value.trim())} placeholder="api_calls" />
        </Field>
        <Field label="Event type" hint="CloudEvents of this type are counted.">
          <input
            value={eventType}
            onChange={event => setEventType(event.target.value)}
            placeholder="com.example.call"
          />
        </Field>
        <div className="form-row">
          <Field label="Aggregation">
            <select
              value={aggregation}
              onChange={event => setAggregation(aggregations[event.target.selectedIndex] ?? 'SUM')}
            >
              {aggregations.map(one => (
                <option key={one}>{one}</option>
              ))}
            </select>
          </Field>
          {aggregation !== 'COUNT' && (
            <Field label="Of the value at">
              <input className="code" value={valueProperty} onChange={event => setValueProperty(event.target.value)} />
            </Field>
          )}
        </div>
        <Field label="Groups" hint="Names of members of data, such as model, region. Empty: none.">
          <input value={groups} onChange={event => setGroups(event.target.value)} placeholder="model, region" />
        </Field>
        <Field label="Unit" hint="Of one whole unit of quantity, on invoices.">
          <input value={unit} onChange={event => setUnit(event.target.value)} placeholder="calls" />
        </Field>
      </ActionForm>
    </Dialog>
  )
}

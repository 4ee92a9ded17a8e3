import type { Queryable, Sql } from '#platform/postgres'
import type { Blocker, Invoice } from '../api.ts'
import type { Hours } from '../rating/rate.ts'
import { loadHost } from '../store/hosts.ts'
import { announce } from '../store/webhooks.ts'

// What is told besides thresholds. Each message has a key that says what it is about, so that every replica may tell it
// and every endpoint hears it once.

/** In the transaction that finalises. Corrections of earlier periods are a message of their own. */
export async function announceInvoice(tx: Queryable, invoice: Invoice, atMs: number): Promise<void> {
  const { id, number, customerId, period, currency, totalNano, due, dueMinor, issuedAt } = invoice
  const data = { invoiceId: id, number, customerId, period, currency, totalNano, dueMinor, due, issuedAt }
  await announce(tx, { type: 'invoice.finalised', key: [id], customerId, atMs, data })
  const adjustments = invoice.lines.filter(line => line.kind === 'adjustment')
  if (adjustments.length === 0) return
  const adjustedNano = adjustments.reduce((sum, line) => sum + BigInt(line.amountNano), 0n)
  const periods = new Set(adjustments.map(line => line.adjustsPeriod?.from ?? ''))
  await announce(tx, {
    type: 'invoice.adjusted',
    key: [id],
    customerId,
    atMs,
    data: { ...data, adjustedNano: `${adjustedNano}`, adjustedPeriods: [...periods], lines: adjustments.length },
  })
}

/** Again only when other reasons stand in the way. */
export async function announceBlocked(
  sql: Sql,
  o: { customerId: string; invoiceId: string; reasons: readonly Blocker[]; atMs: number },
): Promise<void> {
  const { customerId, invoiceId, reasons, atMs } = o
  const codes = [...new Set(reasons.map(({ code }) => code))].sort()
  const data = { customerId, invoiceId, reasons }
  await announce(sql, { type: 'close.blocked', key: [invoiceId, ...codes], customerId, atMs, data })
}

/** Once a meter and period. */
export async function announceUnrated(
  sql: Sql,
  o: { customerId: string; period: Hours; meter: string; quantity: string; unit: string; atMs: number },
): Promise<void> {
  const { customerId, period, meter, quantity, unit, atMs } = o
  const iso = (hour: number) => new Date(hour * 3_600_000).toISOString()
  const data = { customerId, meter, quantity, unit, period: { from: iso(period.from), to: iso(period.to) } }
  await announce(sql, { type: 'usage.unrated', key: [customerId, period.from, meter], customerId, atMs, data })
}

/** A host fell silent here. Another replica may hear it still: the leases of all say when it was last heard. */
export async function announceHostDown(sql: Sql, instanceId: string, nowMs: number): Promise<void> {
  const host = await loadHost(sql, instanceId, nowMs)
  if (host === null || host.leaseEndMs > nowMs) return
  const data = {
    instanceId,
    silentSince: new Date(host.leaseEndMs).toISOString(),
    vms: host.vmIds.length,
    vmIds: host.vmIds.slice(0, 100),
  }
  await announce(sql, { type: 'host.down', key: [instanceId, host.leaseEndMs], customerId: null, atMs: nowMs, data })
}

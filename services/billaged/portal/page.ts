import type { InvoiceSummary, PricedLine, Spend, VmTimeline } from '../api.ts'
import { readDecimal } from '../decimal.ts'
import { html } from '../invoices/escape.ts'
import { formatMinor } from '../rating/currency.ts'
import { chargeTitle, displayUnit, priceAmount, quantityText } from '../rating/units.ts'
import { vmMeters } from '../usage/quantity.ts'

// What a customer sees: one page without scripts, fonts or images from elsewhere, made anew whenever it is opened.

export interface PortalView {
  customerName: string
  spend: Spend
  vms: { vmId: string; cpuNs: string; timeline: VmTimeline | null }[]
  /** VMs beyond those that are shown. */
  vmsLeftOut: number
  invoices: (InvoiceSummary & { receipt: 'valid' | 'invalid' | null })[]
  expiresAt: string
  nonce: string
}

export function portalPage(view: PortalView): string {
  const { spend } = view
  const amount = (nano: string) => `${html(spend.currency)} ${html(priceAmount(BigInt(nano)))}`
  const figures = [
    figure('Spent so far', amount(spend.totalNano)),
    figure('Forecast to the period’s end', amount(spend.forecastNano)),
    spend.budgetNano === null ? '' : figure('Budget', amount(spend.budgetNano), budgetShare(spend)),
  ]
  const body = `<header><h1><bdi>${html(view.customerName)}</bdi></h1>
<p>${day(spend.from)} to ${day(spend.to)}, as of <time>${html(spend.asOf.slice(0, 16).replace('T', ' '))}</time> UTC${spend.complete ? '' : '; some of the newest usage is still on its way'}</p></header>
<section class="figures">${figures.join('')}</section>
<section><h2>Charges</h2>${chargesHtml(spend)}</section>
<section><h2>Virtual machines</h2>${vmsHtml(view)}</section>
<section><h2>Invoices</h2>${invoicesHtml(view)}</section>
<footer><p>Read-only. This access ends on ${html(view.expiresAt.slice(0, 16).replace('T', ' '))} UTC.</p></footer>`
  return page('Usage and invoices', body, view.nonce)
}

/** Without a token: a form, which a link's #token fills in and sends by itself. */
export function portalDoor(o: { nonce: string; isRefused: boolean }): string {
  const body = `<header><h1>Usage and invoices</h1></header>
${o.isRefused ? '<p role="alert">This link is unknown, has expired or was withdrawn. Ask for a new one.</p>' : '<p>Open the link you were given, or paste its token here.</p>'}
<form method="post" action="/portal/session"><label>Token <input name="token" type="password" autocomplete="off" required></label> <button>Open</button></form>
<script nonce="${o.nonce}">
const token = location.hash.slice(1)
if (token) {
  history.replaceState(null, '', location.pathname)
  const form = document.forms[0]
  form.token.value = token
  form.submit()
}
</script>`
  return page('Usage and invoices', body, o.nonce)
}

function chargesHtml({ lines, currency, unrated }: Spend): string {
  if (lines.length === 0)
    return unrated.length === 0
      ? '<p>Nothing used in this period yet.</p>'
      : '<p>Usage is measured; no price is agreed for it yet.</p>'
  const rows = lines.map(
    line =>
      `<tr><td>${html(line.kind === 'minimum' ? 'Minimum commitment' : chargeTitle(line.meter, line.priceId))}</td><td class="n">${html(quantityOf(line))}</td><td class="n">${html(priceAmount(BigInt(line.amountNano)))}</td></tr>`,
  )
  return `<table><thead><tr><th>Charge</th><th class="n">Quantity</th><th class="n">${html(currency)}</th></tr></thead><tbody>${rows.join('')}</tbody></table>`
}

function quantityOf({ meter, quantity }: PricedLine): string {
  if (meter === null) return ''
  const unit = Object.hasOwn(vmMeters, meter) ? vmMeters[meter as keyof typeof vmMeters].unit : ''
  return quantityText(readDecimal(quantity), displayUnit(meter, unit, null), 3)
}

function vmsHtml({ vms, vmsLeftOut, spend }: PortalView): string {
  if (vms.length === 0) return '<p>No virtual machines in this period.</p>'
  const rows = vms.map(({ vmId, cpuNs, timeline }) => {
    const cpu = quantityText(BigInt(cpuNs) * 1_000_000_000n, displayUnit('vm_cpu', 'ns', null), 3)
    return `<tr><td><bdi>${html(vmId)}</bdi></td><td class="n">${html(cpu)}</td><td class="strip">${timeline === null ? '' : stripSvg(timeline, spend)}</td></tr>`
  })
  const rest = vmsLeftOut === 0 ? '' : `<p>${vmsLeftOut} more, included in the charges.</p>`
  return `<table><thead><tr><th>VM</th><th class="n">CPU</th><th>How its time is known</th></tr></thead><tbody>${rows.join('')}</tbody></table>
<p class="legend"><i class="measured"></i> measured <i class="gap"></i> gap <i class="host_down"></i> host down: neither is charged beyond your plan’s rule</p>${rest}`
}

const stripWidth = 1_000

/** Life over the period so far: a rectangle a stretch, in promille of its width. */
function stripSvg({ strip }: VmTimeline, { from, asOf }: Spend): string {
  const [start, end] = [Date.parse(from), Date.parse(asOf)]
  const x = (time: string) =>
    Math.round((stripWidth * (Math.min(Math.max(Date.parse(time), start), end) - start)) / Math.max(1, end - start))
  const parts = strip.map(
    part =>
      `<rect class="${part.kind === 'unmeasured' ? 'gap' : part.kind}" x="${x(part.from)}" width="${Math.max(1, x(part.to) - x(part.from))}" height="10"/>`,
  )
  return `<svg viewBox="0 0 ${stripWidth} 10" preserveAspectRatio="none" role="img" aria-label="measured time and gaps">${parts.join('')}</svg>`
}

function invoicesHtml({ invoices }: PortalView): string {
  if (invoices.length === 0) return '<p>No invoices yet.</p>'
  const rows = invoices.map(invoice => {
    const link = (format: string) =>
      `<a href="/portal/invoices/${encodeURIComponent(invoice.id)}.${format}">${format.toUpperCase()}</a>`
    const due = invoice.dueMinor === null ? '' : formatMinor(BigInt(invoice.dueMinor), invoice.currency)
    const receipt =
      invoice.receipt === null
        ? ''
        : `<a href="/portal/invoices/${encodeURIComponent(invoice.id)}/receipt">${invoice.receipt === 'valid' ? '✓ signature valid' : '✗ signature wrong'}</a>`
    return `<tr><td>${html(invoice.number ?? '')}${invoice.state === 'void' ? ' (void)' : ''}</td><td>${day(invoice.period.from)}</td><td class="n">${html(invoice.currency)} ${html(due)}</td><td>${['html', 'pdf', 'csv'].map(link).join(' ')}</td><td>${receipt}</td></tr>`
  })
  return `<table><thead><tr><th>Number</th><th>Period from</th><th class="n">Due</th><th>Documents</th><th>Receipt</th></tr></thead><tbody>${rows.join('')}</tbody></table>`
}

function figure(label: string, value: string, note = ''): string {
  return `<div><span>${html(label)}</span><strong>${value}</strong>${note}</div>`
}

function budgetShare({ totalNano, budgetNano }: Spend): string {
  const percent = (BigInt(totalNano) * 100n) / BigInt(budgetNano ?? '1')
  return `<small>${percent} % spent</small>`
}

function day(time: string): string {
  return html(time.slice(0, 10))
}

function page(title: string, body: string, nonce: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${html(title)}</title>
<style nonce="${nonce}">${style}</style>
</head>
<body><main>
${body}
</main></body>
</html>
`
}

const style = `
:root { color-scheme: light dark; --line: #8884; --ok: #2a9d68; --gap: #d9a514; --down: #c8443c }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem }
h1 { margin: 0; font-size: 1.6rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
table { width: 100%; border-collapse: collapse } th, td { text-align: left; padding: .35rem .5rem; border-bottom: 1px solid var(--line) }
.n { text-align: right; font-variant-numeric: tabular-nums }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; margin-top: 1.5rem } .figures span, .figures small { display: block } .figures strong { font-size: 1.5rem; font-variant-numeric: tabular-nums }
.strip { width: 45% } svg { width: 100%; height: 12px; display: block; background: #8882 }
rect.measured { fill: var(--ok) } rect.gap { fill: var(--gap) } rect.host_down { fill: var(--down) }
.legend i { display: inline-block; width: .8em; height: .8em; margin-left: .8em } i.measured { background: var(--ok) } i.gap { background: var(--gap) } i.host_down { background: var(--down) }
footer { margin-top: 2rem; color: GrayText }`

import type { Party } from '../api.ts'
import { html } from './escape.ts'
import { type Section, type Sheet, splitAmount } from './sheet.ts'

/** One page without scripts, fonts or images from elsewhere; printed it is A4. */
export function renderHtml(sheet: Sheet): string {
  const number = sheet.facts[0]?.[1] ?? ''
  const title = sheet.isDraft ? `${sheet.title} · ${sheet.buyer.name}` : `${number} · ${sheet.buyer.name}`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${html(title)}</title>
<style>
${style}
</style>
</head>
<body>
<main${sheet.isDraft ? ' class="draft"' : ''}>
<header>
<div class="seller">${partyHtml(sheet.seller)}</div>
<div class="title"><h1>${html(sheet.title)}</h1><p class="due"><span>Amount due</span> ${html(sheet.due)}</p></div>
</header>
<section class="parties">
<div><h2>Billed to</h2>${partyHtml(sheet.buyer)}</div>
<dl>
${sheet.facts.map(([name, value]) => `<dt>${html(name)}</dt><dd>${html(value)}</dd>`).join('\n')}
</dl>
</section>
<table class="items">
<thead><tr><th>Item</th><th class="number">Quantity</th><th class="number">Amount (${html(sheet.currency)})</th></tr></thead>
${sheet.sections.map(section => sectionHtml(section, sheet)).join('\n')}
</table>
<table class="summary">
<tbody>
${sheet.summary.map(row => `<tr${row.isStrong ? ' class="strong"' : ''}><td>${html(row.label)}</td><td class="number">${amountHtml(row.amount, sheet)}</td></tr>`).join('\n')}
</tbody>
</table>
<footer>
${sheet.notes.map(note => `<p>${html(note)}</p>`).join('\n')}
${proofHtml(sheet)}
</footer>
</main>
</body>
</html>
`
}

function partyHtml({ name, address, taxId }: Party): string {
  const lines = [...address, ...(taxId === null ? [] : [`Tax ID ${taxId}`])]
  return `<p><bdi class="name">${html(name)}</bdi>${lines.map(line => `<br><bdi>${html(line)}</bdi>`).join('')}</p>`
}

function sectionHtml({ title, items }: Section, sheet: Sheet): string {
  const head = title === null ? '' : `<tr class="section"><th colspan="3">${html(title)}</th></tr>\n`
  const rows = items.map(
    item =>
      `<tr id="${html(item.id)}"><td><bdi>${html(item.title)}</bdi>${item.details.map(text => `<small><bdi>${html(text)}</bdi></small>`).join('')}</td><td class="number">${html(item.quantity)}</td><td class="number">${amountHtml(item.amount, sheet)}</td></tr>`,
  )
  return `<tbody>\n${head}${rows.join('\n')}\n</tbody>`
}

/** What cannot be paid is in a lighter shade, and still there. */
function amountHtml(amount: string, sheet: Sheet): string {
  const [paid, rest] = splitAmount(amount, sheet.minorDigits)
  return rest === '' ? html(paid) : `${html(paid)}<span class="fine">${html(rest)}</span>`
}

function proofHtml({ proof }: Sheet): string {
  if (proof === null) return ''
  return `<p class="proof">Receipt #${proof.seq}, SHA-256 <code>${html(proof.hash)}</code><br>
signed with the Ed25519 key <code>${html(proof.publicKey)}</code>. Check it offline: <code>billaged-cli verify receipt.json</code></p>`
}

const style = `@page { size: A4; margin: 18mm 16mm 20mm }
* { box-sizing: border-box }
body { font: 14px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1c2430; background: #f0f2f5; margin: 0 }
main { background: #fff; max-width: 52rem; margin: 2rem auto; padding: 3.5rem 3.5rem 2.5rem; border-radius: 4px; box-shadow: 0 1px 4px #0003 }
header, .parties { display: flex; justify-content: space-between; gap: 2rem }
p { margin: 0 }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 600; margin: 0 }
h2 { font-size: 0.75rem; text-transform: uppercase; letter-spacing: 0.06em; color: #66707f; margin: 0 0 0.25rem }
.seller, .parties > div { min-width: 0; overflow-wrap: anywhere }
.name { font-weight: 600 }
.title { text-align: right; flex: none }
.due { font-size: 1.15rem; font-weight: 600; margin-top: 0.25rem }
.due span { color: #66707f; font-size: 0.875rem; font-weight: 400 }
.parties { margin-top: 2.5rem }
dl { display: grid; grid-template-columns: auto auto; gap: 0.1rem 1.5rem; margin: 0; align-content: start; flex: none; max-width: 60% }
dt { color: #66707f }
dd { margin: 0; text-align: right; overflow-wrap: anywhere }
table { width: 100%; border-collapse: collapse; margin-top: 2.5rem }
th, td { text-align: left; padding: 0.5rem 0 0.5rem 1rem; border-bottom: 1px solid #e3e7ec; vertical-align: top; overflow-wrap: anywhere }
th:first-child, td:first-child { padding-left: 0 }
thead th { font-size: 0.75rem; font-weight: 600; color: #66707f; border-bottom: 1.5px solid #1c2430 }
.section th { padding-top: 1.25rem; font-weight: 600 }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.fine { color: #98a1ad }
small { display: block; color: #66707f; font-size: 0.8125rem }
.summary { width: auto; min-width: 50%; margin: 1.25rem 0 0 auto }
.summary td { border: 0; padding-top: 0.2rem; padding-bottom: 0.2rem }
.summary .strong td { font-weight: 700; font-size: 1.05rem; border-top: 1.5px solid #1c2430; padding-top: 0.5rem }
.strong .fine { font-weight: 400 }
footer { margin-top: 3rem; color: #66707f; font-size: 0.8125rem }
footer p { margin-top: 0.35rem }
.proof { border-top: 1px solid #e3e7ec; padding-top: 0.75rem; margin-top: 1rem; font-size: 0.72rem; overflow-wrap: anywhere }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.95em }
.draft h1 { color: #a15c00 }
@media (max-width: 40rem) { main { margin: 0; padding: 1.25rem } header, .parties { flex-wrap: wrap } .title { text-align: left } dl { max-width: none } dd { text-align: left } th, td { padding-left: 0.5rem } .summary { width: 100% } .items thead { display: none } .items tr { display: grid; grid-template-columns: 1fr auto; border-bottom: 1px solid #e3e7ec; padding: 0.4rem 0 } .items td, .items th { border: 0; padding: 0.1rem 0 } .items td:first-child { grid-column: 1 / -1 } .items td:nth-child(2) { text-align: left; color: #66707f } }
@media print { * { print-color-adjust: exact } html { font-size: 11.5px } body { background: none; font-size: 1rem } table, .parties, footer { margin-top: 1.75rem } th, td { padding-top: 0.35rem; padding-bottom: 0.35rem } main { max-width: none; margin: 0; padding: 0; box-shadow: none } tr, .parties, .summary, footer { break-inside: avoid } thead { display: table-header-group } }`

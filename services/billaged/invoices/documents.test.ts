import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import test from 'node:test'
import fc from 'fast-check'
import { getDocument, VerbosityLevel } from 'pdfjs-dist/legacy/build/pdf.mjs'
import type { Invoice } from '../api.ts'
import { portalPage } from '../portal/page.ts'
import { csvCell, html, printable } from './escape.ts'
import { example } from './example.fixture.ts'
import { focusHeader, focusRows } from './focus.ts'
import { render } from './render.ts'
import { amountText, spanText } from './sheet.ts'

const { receipt, evidence, attached } = example()
const { invoice } = receipt.receipt

/** The PDF's pages as lines of text, top to bottom; with what else could be in it. */
async function readPdf(bytes: Buffer) {
  const task = getDocument({ data: new Uint8Array(bytes), verbosity: VerbosityLevel.ERRORS, useSystemFonts: false })
  const pdf = await task.promise
  const pages: { lines: string[]; width: number; height: number; annotations: number }[] = []
  for (let number = 1; number <= pdf.numPages; number++) {
    const page = await pdf.getPage(number)
    const { items } = await page.getTextContent()
    const byLine = new Map<number, { x: number; end: number; text: string }[]>()
    for (const item of items) {
      if (!('str' in item) || item.str.trim() === '') continue
      const [x, y] = [Number(item.transform[4]), Math.round(Number(item.transform[5]))]
      byLine.set(y, [...(byLine.get(y) ?? []), { x, end: x + item.width, text: item.str }])
    }
    const lines = [...byLine].sort(([a], [b]) => b - a).map(([, parts]) => joined(parts))
    const { width, height } = page.getViewport({ scale: 1 })
    pages.push({ lines, width, height, annotations: (await page.getAnnotations()).length })
  }
  const { info } = await pdf.getMetadata()
  const actions = await pdf.getJSActions()
  await task.destroy()
  return { pages, info: Object(info) as Record<string, unknown>, actions }
}

/** Pieces that touch are one word. */
function joined(parts: { x: number; end: number; text: string }[]): string {
  let line = ''
  let end = 0
  for (const part of parts.toSorted((a, b) => a.x - b.x)) {
    line += line !== '' && part.x - end > 1 ? ` ${part.text}` : part.text
    end = part.end
  }
  return line.replace(/ +/g, ' ').trim()
}

test('a PDF says what the invoice says, on A4, dated as the invoice is; the same invoice is the same bytes', async () => {
  const bytes = await render(invoice, 'pdf', attached)
  const { pages, info, actions } = await readPdf(bytes)
  assert.equal(pages.length, 1)
  const [page] = pages
  assert.deepEqual([Math.round(page?.width ?? 0), Math.round(page?.height ?? 0)], [595, 842])
  assert.deepEqual([page?.annotations, actions], [0, null])
  const text = page?.lines.join('\n') ?? ''
  for (const line of [
    'Nordlicht Compute AB',
    'Amount due USD 14.69',
    'Tax ID SE556677889901',
    'Invoice number INV-2026-000001',
    'Issued 2 February 2026',
    'Period 1 – 31 January 2026',
    'Item Quantity Amount (USD)',
    'CPU 123.4567 core-hours 12.345678901',
    'USD 0.10 per core-hour',
    'Subtotal 12.345678901',
    'Tax 19 % of 12.345678901 2.345678991',
    'Total 14.691357892',
    'Rounding in your favour −0.001357892',
    'Amount due (USD) 14.69',
    'Payable within 30 days.',
    `Receipt #1, SHA-256 ${receipt.hash}`,
    'Nordlicht Compute AB · INV-2026-000001 Page 1 of 1',
  ])
    assert.ok(text.includes(line), `${line}\n--\n${text}`)
  assert.deepEqual([info.Title, info.CreationDate], ['Invoice INV-2026-000001', 'D:20260202000000Z'])
  assert.ok((await render(invoice, 'pdf', attached)).equals(bytes))
  // Every font is in it, cut to the letters that are used.
  assert.ok(bytes.length < 60_000 && !bytes.includes('/BaseFont /Helvetica'))
})

test('a long invoice goes over pages, with the heads of its columns and the number on each', async () => {
  const [usage] = invoice.lines
  if (usage === undefined) assert.fail('the example has usage')
  const lines = Array.from({ length: 200 }, (_, i) => ({ ...usage, id: `li_${i}`, description: `Line number ${i}` }))
  const long: Invoice = { ...invoice, lines, customerName: 'Łódź Żółć Μηχανική Робототехника' }
  long.buyer = { name: 'Łódź Żółć Μηχανική Робототехника', address: [`${'y'.repeat(100)}`], taxId: null }
  const { pages } = await readPdf(await render(long, 'pdf', attached))
  assert.ok(pages.length > 5)
  const text = pages.map(({ lines }) => lines.join('\n'))
  for (const [i, page] of text.entries()) assert.ok(page.endsWith(`Page ${i + 1} of ${pages.length}`), page)
  assert.ok(text.slice(0, -1).every(page => page.includes('Amount (USD)')))
  const items = text.join('\n').match(/Line number \d+/g)
  assert.deepEqual(
    items,
    lines.map(({ description }) => description),
  )
  // A name in three alphabets reads as it was written.
  assert.ok(text[0]?.includes('Łódź Żółć Μηχανική Робототехника'))
})

test('amounts and spans read as people write them', () => {
  assert.deepEqual(
    [
      amountText(-1_234_567_890_123n, 9),
      amountText(5n, 9),
      amountText(20_000_000_000n, 2),
      amountText(7_000_000_000n, 0),
    ],
    ['−1,234.567890123', '0.000000005', '20.00', '7'],
  )
  const span = (from: string, to: string) => spanText({ from: `${from}:00Z`, to: `${to}:00Z` })
  assert.equal(span('2026-10-01T00:00', '2026-11-01T00:00'), '1 – 31 October 2026')
  assert.equal(span('2026-10-15T00:00', '2026-11-15T00:00'), '15 October – 14 November 2026')
  assert.equal(span('2026-12-01T00:00', '2027-03-01T00:00'), '1 December 2026 – 28 February 2027')
  assert.equal(span('2026-10-01T00:00', '2026-10-02T00:00'), '1 October 2026')
  assert.equal(span('2026-10-01T07:00', '2026-10-02T00:00'), '1 October 2026 07:00 – 2 October 2026 00:00')
})

const attack = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.constantFrom(
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '</style><svg onload=alert(1)>',
    ']]><!--',
    '&lt;b&gt;&amp;',
    '=HYPERLINK("http://x","y")',
    '+1+1',
    "-2+3+cmd|' /C calc'!A0",
    '@SUM(1,2)',
    '\t=1+1',
    ' =1+1',
    '＝1+1',
    'a,"b"\r\n=c',
    ') Tj ET Q BT (',
    '\\) >> endobj',
    'gpj.exe\u202e',
    '\u0000\u0007\u001b[31m',
    '\ud800',
    '𝔄𝔟𝔠 👩‍👩‍👧 漢字 العربية',
  ),
)

function hostile(text: string): Invoice {
  const lines = invoice.lines.map(line => ({ ...line, description: text, group: { [text]: text } }))
  const party = { name: text, address: [text, text], taxId: text }
  return { ...invoice, customerId: text, customerName: text, seller: party, buyer: party, terms: text, lines }
}

const tagsOf = (page: string) => page.replaceAll(/<style>.*?<\/style>/gs, '').match(/<[^>]*>/g)

/** The page of the portal, with its strips in SVG. */
function portal(text: string): string {
  const span = { from: '2026-01-01T00:00:00.000Z', to: '2026-02-01T00:00:00.000Z' }
  const at = { ...span, asOf: span.to, complete: true }
  const [line] = invoice.lines
  if (line === undefined || line.kind !== 'usage') assert.fail('the example has usage')
  return portalPage({
    customerName: text,
    spend: {
      ...at,
      customerId: text,
      planId: 'std',
      currency: 'USD',
      totalNano: '5',
      forecastNano: '6',
      budgetNano: '7',
      unrated: [],
      lines: [{ ...line, kind: 'usage', model: 'per_unit', group: { [text]: text }, priceId: text, meter: text }],
    },
    vms: [
      {
        vmId: text,
        cpuNs: '5',
        timeline: { ...at, customerId: text, vmId: text, strip: [{ ...span, kind: 'host_down' }] },
      },
    ],
    vmsLeftOut: 0,
    invoices: [],
    expiresAt: span.to,
    nonce: 'n',
  })
}

test('G49: SVG, HTML, CSV and PDF carry what customers wrote as text: no markup, no formula, no action, whatever it is', async () => {
  const plain = tagsOf((await render(hostile('plain'), 'html', attached)).toString())
  const plainPortal = tagsOf(portal('plain'))
  assert.ok(plainPortal?.some(tag => tag.startsWith('<svg')))
  await fc.assert(
    fc.asyncProperty(attack, async text => {
      const page = (await render(hostile(text), 'html', attached)).toString()
      // The same tags with the same attributes, in the same order: nothing of the text became one.
      assert.deepEqual(tagsOf(page), plain)
      assert.doesNotMatch(page, unprintable)
      assert.deepEqual(tagsOf(portal(text)), plainPortal)
      assert.doesNotMatch(portal(text), unprintable)
      const focus = parseCsv(focusHeader() + focusRows(hostile(text), { unitOf: () => text, prices: {} }))
      for (const row of focus.slice(1))
        for (const cell of row) assert.ok(isNumber(cell) || !/^[\s\0]*[=+\-@]/.test(cell), JSON.stringify(cell))
      const rows = parseCsv((await render(hostile(text), 'csv', attached)).toString())
      for (const row of rows.slice(1)) {
        assert.equal(row.length, rows[0]?.length)
        for (const cell of row) assert.ok(isNumber(cell) || !/^[\s\0]*[=+\-@]/.test(cell), JSON.stringify(cell))
        assert.ok([text, `'${text}`].map(cell => cell.toWellFormed()).includes(row[6] ?? ''))
      }
    }),
    // Names that every object answers to.
    { numRuns: 150, examples: [['constructor'], ['valueOf'], ['__proto__']] },
  )
  await fc.assert(
    fc.asyncProperty(attack, async text => {
      const { pages, info, actions } = await readPdf(await render(hostile(text), 'pdf', attached))
      assert.deepEqual([actions, pages.map(page => page.annotations)], [null, pages.map(() => 0)])
      assert.equal(info.Author, printable(text))
      // What is left of it when glyphs that the font lacks are gone is there as text.
      const ascii = text.match(/[!-~]{3,}/g)?.[0]
      const all = pages.flatMap(({ lines }) => lines).join('')
      if (ascii !== undefined && ascii.length < 40) assert.ok(all.includes(ascii), `${ascii} in ${all}`)
      assert.ok(all.includes('INV-2026-000001') && all.includes(receipt.hash))
    }),
    { numRuns: 25, examples: [['constructor']] },
  )
})

// biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be left
const unprintable = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/
const isNumber = (text: string) => /^-?\d+(\.\d+)?$/.test(text)

/** RFC 4180, by the letter. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]]
  for (let at = 0; at < text.length; ) {
    const quoted = /^"((?:[^"]|"")*)"/s.exec(text.slice(at))
    const plain = quoted === null ? (/^[^,\r\n"]*/.exec(text.slice(at))?.[0] ?? '') : ''
    rows.at(-1)?.push(quoted === null ? plain : (quoted[1] ?? '').replaceAll('""', '"'))
    at += quoted === null ? plain.length : quoted[0].length
    if (text[at] === ',') at++
    else if (text.startsWith('\r\n', at)) {
      at += 2
      if (at < text.length) rows.push([])
    } else if (at < text.length) assert.fail(`a cell goes on with ${JSON.stringify(text.slice(at, at + 20))}`)
  }
  return rows
}

test('a cell is a number, text as it was, or text marked as such; HTML has no letter that begins markup', () => {
  fc.assert(
    fc.property(attack, text => {
      assert.doesNotMatch(html(text), /[<>"']/)
      assert.deepEqual(
        parseCsv(`${csvCell(text)}\r\n`)[0]?.map(cell => cell === text || cell === `'${text}`),
        [true],
      )
    }),
  )
  assert.deepEqual(['-1', '-1.5', '=1', '-1a', 'a-b'].map(csvCell), ['-1', '-1.5', `"'=1"`, `"'-1a"`, 'a-b'])
})

test('golden: the bytes that customers keep stay these bytes', async () => {
  assert.equal(
    (await render(invoice, 'csv', attached)).toString(),
    [
      'invoice,number,customer,currency,line,kind,description,price,meter,group,from,to,quantity,unit,amount,adjusts',
      'inv_r5jrhrak6gcrmqcmyh4zsn37g,INV-2026-000001,acme,USD,li_5zkcjs5p689mbrtk7qbng8dyq,usage,CPU,cpu,vm_cpu,,2026-01-01T00:00:00.000Z,2026-02-01T00:00:00.000Z,444444440436000,ns,12.345678901,',
      'inv_r5jrhrak6gcrmqcmyh4zsn37g,INV-2026-000001,acme,USD,li_zqm1vbhs7n410p1npea7n6a5s,tax,Tax 19 %,,,,2026-01-01T00:00:00.000Z,2026-02-01T00:00:00.000Z,0,,2.345678991,',
      'inv_r5jrhrak6gcrmqcmyh4zsn37g,INV-2026-000001,acme,USD,li_868jfe7bkr0jn1f86yz5g4yhr,rounding,Rounding in your favour,,,,2026-01-01T00:00:00.000Z,2026-02-01T00:00:00.000Z,0,,-0.001357892,',
      '',
    ].join('\r\n'),
  )
  assert.equal(
    evidence[0],
    '{"digest":"5c679c138441e0ad6c90dd061a6a31c4bcea7fa08ccbb5c03c9f66b49fa13c21","hour":490896,"samples":2,"usage":{"cpuNs":{"longGap":"99","measured":"444444440436000"}},"vmId":"vm-1"}',
  )
  // Not the PDF: its bytes are zlib's, which may change with the runtime. That is why documents are stored.
  const digest = async (format: 'json' | 'html') =>
    createHash('sha256')
      .update(await render(invoice, format, attached))
      .digest('hex')
  assert.deepEqual(
    [await digest('json'), await digest('html'), receipt.receipt.evidence.root, receipt.hash, receipt.signature],
    [
      'e2fa350da1db66470f9fbea0bda9bcb0086a718d735ae44bf53e23867fe0bbb1',
      '517e3b1917bc2c20b315e8935b03ba7b3ef3bd486be3d6a7b7d5875d0f4a2bc0',
      '02758da26fa6cfd9e978ab6893473825552f7138c945cb51a57017dd7d3dceab',
      'bdb765ad36fc9bc551f928fe23107b06d0df65bea6048a3225c58654c93a28ae',
      'f3+xm5SJP0szyi8ZgYTTpa77kiAPtATzfShUj7uSAxRz1q9XSqg3l71n7W29IqYdkIxXMW9xdQ4OAonviQh0BA==',
    ],
  )
})

const withNames = (name: string, address: string[]): Invoice => ({ ...invoice, buyer: { name, address, taxId: null } })

test('letters that DejaVu Sans lacks print in the fonts of INVOICE_FONTS, in line with the others; without one they are marked, and the invoice says so', async () => {
  const named = withNames('ℊ𝒜 Škoda 中文 GmbH', ['𝒜'.repeat(120)])
  const lines = async (fonts: string[]) => {
    const { pages } = await readPdf(await render(named, 'pdf', { ...attached, fonts }))
    return pages.flatMap(page => page.lines)
  }
  const math = createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuMathTeXGyre.ttf')
  const note = '▯ stands for a letter that this PDF has no font for. The HTML, CSV and JSON of this invoice have it.'
  const marked = await lines([])
  assert.ok(marked.includes(note), marked.join('\n'))
  assert.ok(
    marked.some(line => line.startsWith('▯▯ Škoda ▯▯ GmbH')),
    marked.join('\n'),
  )
  const set = await lines([math])
  // Compatibility forms are read back as what they stand for.
  assert.ok(
    set.some(line => /^(ℊ𝒜|gA) Škoda ▯▯ GmbH/.test(line)),
    set.join('\n'),
  )
  assert.equal(set.join('').match(/𝒜/gu)?.length, 121, 'a word without spaces is cut, and no letter of it lost')

  const cjk = '/usr/share/fonts/truetype/wqy/wqy-microhei.ttc'
  if (existsSync(cjk)) {
    const chinese = await lines([math, `${cjk}#WenQuanYiMicroHei`])
    assert.ok(
      chinese.some(line => /Škoda 中文 GmbH/.test(line)),
      chinese.join('\n'),
    )
    assert.ok(!chinese.includes(note))
  }
  // What needs no other font is the same to the byte.
  const plain = await render(invoice, 'pdf', attached)
  assert.ok((await render(invoice, 'pdf', { ...attached, fonts: [math] })).equals(plain))
  await assert.rejects(lines([import.meta.filename]), /INVOICE_FONTS: .* cannot be read as a font/)
})

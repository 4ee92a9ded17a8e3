import { setImmediate } from 'node:timers/promises'
import PDFDocument from 'pdfkit'
import type { Party } from '../api.ts'
import { type Item, type Sheet, splitAmount } from './sheet.ts'
import { loadTypefaces, missingMark, type Run, runsOf, type Typefaces } from './typefaces.ts'

// An invoice on A4. Its bytes depend on the sheet alone: the date inside is the invoice's, fonts are cut to the letters
// that are used and named by their place. Text is set glyph by glyph, so there is nothing in it to escape.

/** A4, in points. */
const page = { width: 595.28, height: 841.89, left: 48, right: 48, top: 48, bottom: 56 }
const inner = page.width - page.left - page.right
const edge = page.width - page.right
const ink = '#1c2430'
const grey = '#66707f'
const light = '#98a1ad'
const rule = '#d5dae1'
const draftInk = '#a15c00'

/** Amounts as wide as a nano-unit of a million; quantities beside them. What is left is the item's. */
const amountWidth = 118
const quantityWidth = 128
const itemWidth = inner - amountWidth - quantityWidth - 16

/** Rows between which others get their turn: an invoice may have hundreds of pages. */
const rowsPerTurn = 50

/** `fonts`: files of further fonts, for letters that DejaVu Sans lacks. */
export async function renderPdf(sheet: Sheet, issuedAt: string | null, fonts: readonly string[]): Promise<Buffer> {
  const faces = loadTypefaces(fonts)
  const number = sheet.facts[0]?.[1] ?? ''
  const doc = new PDFDocument({
    size: 'A4',
    margins: { left: page.left, right: page.right, top: page.top, bottom: 0 },
    bufferPages: true,
    lang: 'en',
    displayTitle: true,
    pdfVersion: '1.7',
    // None to begin with: pdfkit's own default is one that it does not embed.
    font: '',
    info: {
      Title: sheet.isDraft ? `${sheet.title} for ${sheet.buyer.name}` : `${sheet.title} ${number}`,
      Author: sheet.seller.name,
      Creator: 'billaged',
      Producer: 'billaged',
      CreationDate: new Date(issuedAt ?? 0),
    },
  })
  const chunks: Buffer[] = []
  const ended = new Promise<Buffer>((resolve, reject) => {
    doc.on('data', (chunk: Buffer) => chunks.push(chunk))
    doc.on('end', () => resolve(Buffer.concat(chunks)))
    doc.on('error', reject)
  })
  for (const face of [faces.regular, faces.bold, ...faces.more]) doc.registerFont(face.name, face.source)
  const set = typesetter(doc, faces)
  let y = head(set, sheet, page.top)
  y = tableHead(set, sheet, y + 22)
  let rows = 0
  for (const { title, items } of sheet.sections) {
    if (title !== null) {
      y = newPageUnless(set, sheet, y, 60) + 10
      y = set.text(title, page.left, y, { font: 'bold', size: 9, width: inner }) + 4
    }
    for (const item of items) {
      if (++rows % rowsPerTurn === 0) await setImmediate()
      y = itemRow(set, sheet, item, y)
    }
  }
  y = summary(set, sheet, y + 14)
  closing(set, sheet, y + 20)
  footers(set, sheet, number)
  doc.end()
  return ended
}

interface TextStyle {
  font?: 'regular' | 'bold'
  size?: number
  color?: string
  width: number
  align?: 'left' | 'right'
}

type Typesetter = ReturnType<typeof typesetter>

function typesetter(doc: PDFKit.PDFDocument, faces: Typefaces) {
  let isMissing = false
  const mixed = (text: string, style: TextStyle) => {
    const found = runsOf(text, faces[style.font ?? 'regular'], faces)
    if (found?.isMissing) isMissing = true
    return found === null ? null : breakLines(doc, found.runs, style)
  }
  const use = ({ font = 'regular', size = 9, color = ink }: TextStyle) => doc.font(font).fontSize(size).fillColor(color)
  // pdfkit breaks lines at spaces only: a word wider than its column would run into the next one.
  const fold = (text: string, width: number) =>
    text
      .split(' ')
      .map(word => (doc.widthOfString(word) <= width ? word : cutWord(word, width)))
      .join(' ')
  const cutWord = (word: string, width: number) => {
    let line = ''
    let folded = ''
    for (const { segment } of new Intl.Segmenter('en').segment(word)) {
      if (line !== '' && doc.widthOfString(line + segment) > width) {
        folded += `${line}\n`
        line = ''
      }
      line += segment
    }
    return folded + line
  }
  return {
    doc,
    widthOf: (text: string, style: TextStyle) => use(style).widthOfString(text),
    /** Something that no font has was set. */
    isMissing: () => isMissing,
    heightOf(text: string, style: TextStyle) {
      use(style)
      const lines = mixed(text, style)
      if (lines !== null) return lines.length * lineHeight(doc)
      use(style)
      return doc.heightOfString(fold(text, style.width), { width: style.width, lineGap: 1.5 })
    },
    /** Sets text at a place; returns where the next line begins. */
    text(text: string, x: number, y: number, style: TextStyle) {
      use(style)
      const lines = mixed(text, style)
      if (lines !== null) {
        use(style)
        return setLines(doc, lines, x, y, style)
      }
      use(style)
      const folded = fold(text, style.width)
      const height = doc.heightOfString(folded, { width: style.width, lineGap: 1.5 })
      doc.text(folded, x, y, { width: style.width, align: style.align ?? 'left', lineGap: 1.5, height: page.height })
      return y + height
    },
    line(y: number, color = rule, from = page.left, width = 0.6) {
      doc.moveTo(from, y).lineTo(edge, y).lineWidth(width).strokeColor(color).stroke()
    },
    /** Right-aligned at the edge, the digits that cannot be paid in a lighter shade. */
    amount(amount: string, minor: number, y: number, style: { font?: 'bold'; size?: number } = {}) {
      const [paid, rest] = splitAmount(amount, minor)
      const shape = { ...style, width: inner }
      const restShape = { ...shape, font: 'regular' as const, color: light }
      const restWidth = rest === '' ? 0 : this.widthOf(rest, restShape)
      const paidWidth = this.widthOf(paid, shape)
      this.text(paid, edge - restWidth - paidWidth, y, { ...shape, width: paidWidth + 1 })
      if (rest !== '') this.text(rest, edge - restWidth, y, { ...restShape, width: restWidth + 1 })
    },
  }
}

interface Line {
  runs: Run[]
  width: number
}

/** Words of several fonts in lines; a word that is wider than its column is cut. ICU knows words in scripts without spaces. */
function breakLines(doc: PDFKit.PDFDocument, runs: readonly Run[], { width, size = 9 }: TextStyle): Line[] {
  const lines: Line[] = [{ runs: [], width: 0 }]
  const widthOf = ({ face, text }: Run) => doc.font(face.name).fontSize(size).widthOfString(text)
  const put = (piece: Run, pieceWidth: number) => {
    let line = lines.at(-1)
    if (line === undefined || (line.width > 0 && line.width + pieceWidth > width)) {
      line = { runs: [], width: 0 }
      lines.push(line)
      if (piece.text.trim() === '') return
    }
    const last = line.runs.at(-1)
    if (last?.face === piece.face) last.text += piece.text
    else line.runs.push({ ...piece })
    line.width += pieceWidth
  }
  for (const { face, text } of runs)
    for (const { segment: word } of new Intl.Segmenter('en', { granularity: 'word' }).segment(text)) {
      const wordWidth = widthOf({ face, text: word })
      if (word === '\n') lines.push({ runs: [], width: 0 })
      else if (wordWidth <= width) put({ face, text: word }, wordWidth)
      else
        for (const { segment } of new Intl.Segmenter('en').segment(word))
          put({ face, text: segment }, widthOf({ face, text: segment }))
    }
  return lines
}

function setLines(doc: PDFKit.PDFDocument, lines: readonly Line[], x: number, y: number, style: TextStyle): number {
  const { size = 9, width, align = 'left' } = style
  const height = lineHeight(doc)
  // All fonts of a line stand on one base line, that of the font it would be in alone.
  const ascent = (Number(Reflect.get(Object(Reflect.get(doc, '_font')), 'ascender')) / 1000) * size
  for (const [n, line] of lines.entries()) {
    let at = align === 'right' ? x + width - line.width : x
    for (const { face, text } of line.runs) {
      doc.font(face.name).fontSize(size)
      const wide = doc.widthOfString(text)
      doc.text(text, at, y + n * height + ascent, { lineBreak: false, baseline: 'alphabetic' })
      at += wide
    }
  }
  return y + lines.length * height
}

/** Of the font in use. */
function lineHeight(doc: PDFKit.PDFDocument): number {
  return doc.currentLineHeight(true) + 1.5
}

function head(set: Typesetter, sheet: Sheet, top: number): number {
  const half = inner / 2 - 12
  const right = { width: half, align: 'right' as const }
  const x = edge - half
  const left = party(set, sheet.seller, page.left, top, half)
  let y = set.text(sheet.title, x, top - 5, { ...right, size: 22, color: sheet.isDraft ? draftInk : ink })
  y = set.text(`Amount due ${sheet.due}`, x, y + 2, { ...right, font: 'bold', size: 11 })
  const below = Math.max(left, y) + 24
  const label = set.text('BILLED TO', page.left, below, { width: half, size: 7, color: grey })
  const buyer = party(set, sheet.buyer, page.left, label + 2, half)
  let fact = below
  for (const [name, value] of sheet.facts) {
    set.text(name, x, fact, { width: 100, color: grey })
    fact = set.text(value, x + 90, fact, { ...right, width: half - 90 }) + 3
  }
  return Math.max(buyer, fact)
}

function party(set: Typesetter, { name, address, taxId }: Party, x: number, top: number, width: number): number {
  let y = set.text(name, x, top, { font: 'bold', size: 11, width })
  for (const line of [...address, ...(taxId === null ? [] : [`Tax ID ${taxId}`])]) y = set.text(line, x, y, { width })
  return y
}

function tableHead(set: Typesetter, sheet: Sheet, y: number): number {
  const style = { size: 7.5, color: grey, font: 'bold' as const }
  set.text('Item', page.left, y, { ...style, width: itemWidth })
  set.text('Quantity', quantityX, y, { ...style, width: quantityWidth, align: 'right' })
  const end = set.text(`Amount (${sheet.currency})`, edge - amountWidth, y, {
    ...style,
    width: amountWidth,
    align: 'right',
  })
  set.line(end + 4, ink, page.left, 1)
  return end + 5
}

const quantityX = page.left + itemWidth + 8

function itemRow(set: Typesetter, sheet: Sheet, item: Item, top: number): number {
  const detail = { size: 8, color: grey, width: itemWidth }
  const quantity = { width: quantityWidth, align: 'right' as const }
  const heights = [
    set.heightOf(item.title, { width: itemWidth }),
    ...item.details.map(text => set.heightOf(text, detail)),
  ]
  const height = Math.max(
    heights.reduce((sum, part) => sum + part + 1, 0),
    set.heightOf(item.quantity, quantity),
  )
  const y = newPageUnless(set, sheet, top, height + 10) + 5
  // In the order in which it is read aloud.
  let end = set.text(item.title, page.left, y, { width: itemWidth })
  for (const text of item.details) end = set.text(text, page.left, end + 1, detail)
  set.text(item.quantity, quantityX, y, quantity)
  set.amount(item.amount, sheet.minorDigits, y)
  const bottom = Math.max(end, y + height) + 4
  set.line(bottom)
  return bottom
}

function summary(set: Typesetter, sheet: Sheet, top: number): number {
  const labelX = page.left + inner * 0.42
  const labelWidth = edge - amountWidth - labelX - 6
  let y = newPageUnless(set, sheet, top, sheet.summary.length * 16 + 20, false)
  for (const { label, amount, isStrong } of sheet.summary) {
    const font = isStrong ? ({ font: 'bold', size: 10.5 } as const) : {}
    if (isStrong) {
      set.line(y + 3, ink, labelX, 1)
      y += 10
    }
    const end = set.text(label, labelX, y, { ...font, width: labelWidth }) + 3
    set.amount(amount, sheet.minorDigits, y, font)
    y = end
    if (y > page.height - page.bottom - 20) y = newPageUnless(set, sheet, y, 40, false)
  }
  return y
}

const missingNote = `${missingMark} stands for a letter that this PDF has no font for. The HTML, CSV and JSON of this invoice have it.`

function closing(set: Typesetter, sheet: Sheet, top: number) {
  const note = { size: 8, color: grey, width: inner }
  const small = { size: 6.5, color: grey, width: inner }
  const { proof } = sheet
  const notes = set.isMissing() ? [...sheet.notes, missingNote] : sheet.notes
  const proofLines =
    proof === null
      ? []
      : [
          `Receipt #${proof.seq}, SHA-256 ${proof.hash}`,
          `signed with the Ed25519 key ${proof.publicKey}. Check it offline: billaged-cli verify receipt.json`,
        ]
  const height = notes.reduce((sum, text) => sum + set.heightOf(text, note) + 4, proofLines.length * 10 + 12)
  let y = newPageUnless(set, sheet, top, height, false)
  for (const text of notes) y = set.text(text, page.left, y, note) + 4
  if (proofLines.length === 0) return
  set.line(y + 4)
  y += 10
  for (const text of proofLines) y = set.text(text, page.left, y, small) + 1
}

function newPageUnless(set: Typesetter, sheet: Sheet, y: number, height: number, isTable = true): number {
  if (y + height <= page.height - page.bottom) return y
  set.doc.addPage()
  return isTable ? tableHead(set, sheet, page.top) : page.top
}

function footers(set: Typesetter, sheet: Sheet, number: string) {
  const { start, count } = set.doc.bufferedPageRange()
  for (let i = start; i < start + count; i++) {
    set.doc.switchToPage(i)
    const y = page.height - 40
    const style = { size: 7.5, color: grey }
    const name = sheet.isDraft ? sheet.title : number
    set.text(`${sheet.seller.name} · ${name}`, page.left, y, { ...style, width: inner - 90 })
    set.text(`Page ${i - start + 1} of ${count}`, edge - 80, y, { ...style, width: 80, align: 'right' })
  }
}

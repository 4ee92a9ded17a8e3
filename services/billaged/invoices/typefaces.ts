import { createRequire } from 'node:module'
import PDFDocument from 'pdfkit'

// The fonts of a PDF: DejaVu Sans, which has most alphabets, and behind it those that an operator names (INVOICE_FONTS) for
// what it lacks. A letter that none has is shown as ▯, and the invoice says so.

export interface Typeface {
  /** As the document knows it. */
  name: string
  source: PDFKit.Mixins.PDFFontSource
  has(codePoint: number): boolean
}

export interface Typefaces {
  regular: Typeface
  bold: Typeface
  more: readonly Typeface[]
}

/** A piece of text in one font. */
export interface Run {
  face: Typeface
  text: string
}

export const missingMark = '▯'

const dejaVu = new Map<'regular' | 'bold', Typeface>()
const others = new Map<string, Typeface>()

/** `files`: TTF, OTF, or a collection and the name of a font in it behind #. Read once in the life of the process. */
export function loadTypefaces(files: readonly string[]): Typefaces {
  const ours = (name: 'regular' | 'bold', file: string) => {
    const found =
      dejaVu.get(name) ?? parse(name, createRequire(import.meta.url).resolve(`dejavu-fonts-ttf/ttf/${file}.ttf`))
    dejaVu.set(name, found)
    return found
  }
  const more = files.map(file => {
    const found = others.get(file) ?? parse(`more-${others.size}`, file)
    others.set(file, found)
    return found
  })
  return { regular: ours('regular', 'DejaVuSans'), bold: ours('bold', 'DejaVuSans-Bold'), more }
}

/** A text cut where its font changes; null when `face` has all of it. */
export function runsOf(text: string, face: Typeface, faces: Typefaces): { runs: Run[]; isMissing: boolean } | null {
  if (has(face, text)) return null
  const runs: Run[] = []
  let isMissing = false
  for (const { segment } of new Intl.Segmenter('en').segment(text)) {
    const able = [face, ...faces.more].find(one => has(one, segment))
    if (able === undefined) isMissing = true
    const next = able === undefined ? { face, text: missingMark } : { face: able, text: segment }
    const last = runs.at(-1)
    if (last?.face === next.face) last.text += next.text
    else runs.push(next)
  }
  return { runs, isMissing }
}

function has(face: Typeface, text: string): boolean {
  for (const letter of text) {
    const codePoint = letter.codePointAt(0) ?? 0
    if (!isInvisible(codePoint) && !face.has(codePoint)) return false
  }
  return true
}

/** Line ends, joiners and choices of a variant: no font has to have them. */
function isInvisible(codePoint: number): boolean {
  return codePoint < 0x20 || codePoint === 0x200d || (codePoint >= 0xfe00 && codePoint <= 0xfe0f)
}

/** Reading a font takes longer than setting a page with it. pdfkit takes one that is read already, and can give it. */
function parse(name: string, file: string): Typeface {
  const [path = '', family] = file.split('#')
  const doc = new PDFDocument({ font: '', autoFirstPage: false })
  try {
    if (family === undefined) doc.font(path)
    else doc.font(path, family)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`INVOICE_FONTS: ${file} cannot be read as a font: ${why}`, { cause })
  }
  const font: unknown = Reflect.get(Object(Reflect.get(doc, '_font')), 'font')
  const lookUp: unknown = Reflect.get(Object(font), 'hasGlyphForCodePoint')
  if (!isFont(font) || typeof lookUp !== 'function')
    throw new Error(`INVOICE_FONTS: ${file} is not a font, or a collection of them; name one of those behind #`)
  const known = new Map<number, boolean>()
  return {
    name,
    source: font,
    has(codePoint) {
      const isThere = known.get(codePoint) ?? lookUp.call(font, codePoint) === true
      known.set(codePoint, isThere)
      return isThere
    },
  }
}

function isFont(value: unknown): value is PDFKit.Mixins.PDFFontSource {
  return typeof Reflect.get(Object(value), 'layout') === 'function'
}

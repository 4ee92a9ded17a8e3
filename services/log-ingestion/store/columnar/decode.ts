// A block as it is read: columns are unpacked when something asks for them, texts are made for rows that need them.

import { isAscii } from 'node:buffer'
import { BlockError, ByteReader, ByteWriter } from './bytes.ts'
import { RowTable } from './row-table.ts'
import { Section } from './section.ts'
import { keysOf, type Shape } from './shapes.ts'
import { decodeValues, type Values } from './value-column.ts'

export interface BlockSections {
  head: Buffer
  /** Needed for messages, and for metadata that repeats parts of them. */
  messages?: Buffer | undefined
  metadata?: Buffer | undefined
}

export class Block {
  readonly rows: number
  readonly minId: bigint
  readonly #scale: number
  readonly #head: Section
  readonly #sections: BlockSections
  #times: Float64Array | undefined
  #ids: Float64Array | undefined
  #created: Float64Array | undefined
  #levels: Buffer | undefined
  #services: string[] | undefined
  #serviceNumbers: Uint32Array | undefined
  #messages: Messages | undefined
  #metadata: Metadata | undefined

  /** @throws BlockError */
  constructor(sections: BlockSections) {
    this.#sections = sections
    this.#head = new Section('head', sections.head)
    const fixed = new ByteReader(this.#head.column(0))
    this.rows = fixed.varint()
    this.#scale = fixed.varint()
    this.minId = BigInt(fixed.text())
  }

  /** Nanoseconds since the day began, ascending. */
  get nsOfDay(): Float64Array {
    if (!this.#times) {
      const times = new Float64Array(this.rows)
      const reader = new ByteReader(this.#head.column(1))
      let time = 0
      for (let i = 0; i < times.length; i++) {
        time += reader.varint()
        times[i] = time * this.#scale
      }
      this.#times = times
    }
    return this.#times
  }

  /** Ids less the least one. */
  get ids(): Float64Array {
    if (!this.#ids) {
      const ids = new Float64Array(this.rows)
      const reader = new ByteReader(this.#head.column(2))
      let id = -1
      for (let i = 0; i < ids.length; i++) {
        id += 1 + reader.zigzag()
        ids[i] = id
      }
      this.#ids = ids
    }
    return this.#ids
  }

  get createdUs(): Float64Array {
    if (!this.#created) {
      const created = new Float64Array(this.rows)
      const reader = new ByteReader(this.#head.column(3))
      let us = 0
      for (let i = 0; i < created.length; i++) {
        us += reader.zigzag()
        created[i] = us
      }
      this.#created = created
    }
    return this.#created
  }

  get levels(): Buffer {
    this.#levels ??= this.#head.column(4)
    return this.#levels
  }

  get services(): readonly string[] {
    if (!this.#services) {
      const reader = new ByteReader(this.#head.column(5))
      this.#services = Array.from({ length: reader.varint() }, () => reader.text())
    }
    return this.#services
  }

  get serviceNumbers(): Uint32Array {
    if (!this.#serviceNumbers) {
      const numbers = new Uint32Array(this.rows)
      const reader = new ByteReader(this.#head.column(6))
      for (let i = 0; i < numbers.length; i++) numbers[i] = reader.varint()
      this.#serviceNumbers = numbers
    }
    return this.#serviceNumbers
  }

  get messages(): Messages {
    if (!this.#messages) {
      if (!this.#sections.messages) throw new Error('BUG: the messages of a block were not read')
      this.#messages = new Messages(new Section('messages', this.#sections.messages), this.rows)
    }
    return this.#messages
  }

  get metadata(): Metadata {
    if (!this.#metadata) {
      if (!this.#sections.metadata) throw new Error('BUG: the metadata of a block was not read')
      this.#metadata = new Metadata(new Section('metadata', this.#sections.metadata), this.rows, () => this.messages)
    }
    return this.#metadata
  }

  /** Adds rows to a table whose texts are gathered in `texts`. */
  addTo(table: RowTable, texts: ByteWriter, keeps: (row: number) => boolean): void {
    const numbers = this.services.map(name => {
      const known = table.services.indexOf(name)
      if (known >= 0) return known
      table.services.push(name)
      return table.services.length - 1
    })
    const idOffset = Number(this.minId - table.idBase)
    const { bytes, ends } = this.messages
    for (let row = 0; row < this.rows; row++) {
      if (!keeps(row)) continue
      const to = table.count++
      table.nsOfDay[to] = this.nsOfDay[row] as number
      table.id[to] = (this.ids[row] as number) + idOffset
      table.createdUs[to] = this.createdUs[row] as number
      table.level[to] = this.levels[row] as number
      table.service[to] = numbers[this.serviceNumbers[row] as number] as number
      table.messageFrom[to] = texts.at
      texts.copy(bytes, ends[row] as number, ends[row + 1] as number)
      table.messageTo[to] = texts.at
      const text = this.metadata.text(row)
      if (text === null) {
        table.setNoMetadata(to)
        continue
      }
      table.metadataFrom[to] = texts.at
      texts.reserve(text.length * 3)
      texts.at += texts.bytes.write(text, texts.at)
      table.metadataTo[to] = texts.at
    }
  }
}

export class Messages {
  readonly bytes: Buffer
  /** One more than there are rows. */
  readonly ends: Int32Array
  #isAscii: boolean | undefined

  constructor(section: Section, rows: number) {
    const lengths = new ByteReader(section.column(0))
    this.ends = new Int32Array(rows + 1)
    for (let i = 0; i < rows; i++) this.ends[i + 1] = (this.ends[i] as number) + lengths.varint()
    this.bytes = section.column(1)
    if (this.bytes.length !== this.ends[rows]) throw new BlockError('messages have another length than they had')
  }

  slice(row: number): Buffer {
    return this.bytes.subarray(this.ends[row] as number, this.ends[row + 1] as number)
  }

  text(row: number): string {
    return this.bytes.toString('utf8', this.ends[row] as number, this.ends[row + 1] as number)
  }

  /** Rows whose message holds this ASCII text, letters compared without case; undefined when this way cannot tell. */
  rowsWith(foldedText: string): Uint8Array | undefined {
    this.#isAscii ??= isAscii(this.bytes)
    if (!this.#isAscii) return undefined
    const { ends } = this
    const folded = foldAscii(this.bytes)
    const wanted = Buffer.from(foldedText, 'latin1')
    const rows = new Uint8Array(ends.length - 1)
    let row = 0
    for (let at = folded.indexOf(wanted); at >= 0; ) {
      while ((ends[row + 1] as number) <= at) row++
      const end = ends[row + 1] as number
      if (at + wanted.length <= end) {
        rows[row] = 1
        at = folded.indexOf(wanted, end)
      } else at = folded.indexOf(wanted, at + 1)
    }
    return rows
  }
}

let scratch = new Int32Array(0)

/** ASCII letters in lower case, in memory that the next call uses again: bytes searched this way cost a third of what
 *  making strings of them does. */
function foldAscii(bytes: Buffer): Buffer {
  const words = Math.ceil(bytes.length / 4)
  if (scratch.length < words) scratch = new Int32Array(words)
  const folded = Buffer.from(scratch.buffer, 0, bytes.length)
  folded.set(bytes)
  for (let i = 0; i < words; i++) {
    const word = scratch[i] as number
    // Four bytes below 0x80 at once: the top bit says ≥ 'A' in one sum and > 'Z' in the other, and never carries.
    const isUpper = (word + 0x3f3f3f3f) & ~(word + 0x25252525) & 0x80808080
    scratch[i] = word | (isUpper >>> 2)
  }
  return folded
}

export class Metadata {
  readonly shapes: readonly Shape[]
  /** Number of the shape plus one; 0 for rows without metadata. */
  readonly shapeOfRow: Buffer
  /** How many rows before this one have its shape. */
  readonly #ordinals: Uint32Array
  readonly #rowsOfShape: number[][]
  readonly #section: Section
  readonly #messages: () => Messages
  readonly #columns = new Map<number, Values>()
  readonly #firstColumn: number[] = []
  readonly #pieces: string[][]

  constructor(section: Section, rows: number, messages: () => Messages) {
    this.#section = section
    this.#messages = messages
    const reader = new ByteReader(section.column(0))
    let column = 2
    this.shapes = Array.from({ length: reader.varint() }, () => {
      const pieces = Array.from({ length: reader.varint() }, () => reader.slice(reader.varint()))
      this.#firstColumn.push(column)
      column += pieces.length - 1
      return pieces
    })
    this.#pieces = this.shapes.map(pieces => pieces.map(piece => piece.toString()))
    this.shapeOfRow = section.column(1)
    this.#ordinals = new Uint32Array(rows)
    this.#rowsOfShape = this.shapes.map(() => [])
    for (let row = 0; row < rows; row++) {
      const shape = this.shapeOfRow[row] as number
      if (shape === 0) continue
      const list = this.#rowsOfShape[shape - 1]
      if (!list) throw new BlockError('a row has a shape that the block does not have')
      this.#ordinals[row] = list.length
      list.push(row)
    }
  }

  /** The JSON text as it was written, or null. */
  text(row: number): string | null {
    const shape = (this.shapeOfRow[row] as number) - 1
    if (shape < 0) return null
    const pieces = this.#pieces[shape] as string[]
    const ordinal = this.#ordinals[row] as number
    let text = pieces[0] as string
    for (let i = 1; i < pieces.length; i++) text += this.#values(shape, i - 1)(ordinal) + (pieces[i] as string)
    return text
  }

  /** Rows with this shape, and the texts of one of its values. */
  *columns(): Generator<{ key: string | undefined; rows: readonly number[]; values: Values }> {
    for (const [shape, pieces] of this.shapes.entries()) {
      const rows = this.#rowsOfShape[shape] as number[]
      if (rows.length === 0) continue
      const keys = keysOf(pieces)
      for (const [i, key] of keys.entries()) yield { key, rows, values: this.#values(shape, i) }
    }
  }

  #values(shape: number, value: number): Values {
    const column = (this.#firstColumn[shape] as number) + value
    let values = this.#columns.get(column)
    if (!values) {
      const rows = this.#rowsOfShape[shape] as number[]
      values = decodeValues(this.#section.column(column), rows.length, n => this.#messages().slice(rows[n] as number))
      this.#columns.set(column, values)
    }
    return values
  }
}

/** The rows of several blocks of one tenant and day that `keeps` lets through, as one table. */
export function tableOf(
  blocks: readonly Block[],
  keeps: (block: Block, row: number) => boolean = () => true,
): RowTable {
  const table = new RowTable(blocks.reduce((sum, block) => sum + block.rows, 0))
  table.idBase = blocks.reduce((least, block) => (block.minId < least ? block.minId : least), blocks[0]?.minId ?? 0n)
  const texts = new ByteWriter(blocks.reduce((sum, block) => sum + block.messages.bytes.length * 3, 1_024))
  for (const block of blocks) block.addTo(table, texts, row => keeps(block, row))
  table.bytes = texts.finish()
  return table
}

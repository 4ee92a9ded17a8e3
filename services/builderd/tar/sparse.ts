// Sparse files: GNU's old header type and the three PAX encodings 0.0, 0.1 and 1.0.
// Spec: GNU tar manual, "Storing Sparse Files".

import { TarError } from './entry.ts'
import { parseWhole } from './pax.ts'

/** Pieces of one file; an honest writer needs a few, a map of more is an attack on memory. */
const piecesMax = 100_000
export interface SparseMap {
  pieces: { at: number; length: number }[]
  /** The file's size with its holes. Bytes. */
  realSize: number
  /** Whether more of the map follows in the next block, and what kind of block that is. */
  wantsBlock: boolean
  storage: 'header' | 'body'
  /** Format 1.0: the numbers read so far, and the digits of one that a block's edge has cut. */
  numbers: number[]
  digits: string
}

/** The map in a GNU "S" header: four pieces, then extension blocks of 21. */
export function parseOldGnuExtents(header: Buffer): SparseMap {
  const map: SparseMap = {
    pieces: [],
    realSize: octal(header, 483),
    wantsBlock: header[482] !== 0 && header[482] !== 0x30,
    storage: 'header',
    numbers: [],
    digits: '',
  }
  readPieces(map, header, 386, 4)
  return map
}

/** The map in PAX records; undefined when the member is not sparse. */
export function parsePaxExtents(records: readonly [string, string][] | undefined): SparseMap | undefined {
  if (!records) return undefined
  const last = (key: string) => records.findLast(([k]) => k === key)?.[1]
  const major = last('major')
  const minor = last('minor')
  const size = last('realsize') ?? last('size')
  if (size === undefined) {
    if (major === undefined && last('map') === undefined) return undefined
    throw new TarError('a sparse member does not say its size')
  }
  const map: SparseMap = {
    pieces: [],
    realSize: parseWhole(size, 'sparse size'),
    wantsBlock: false,
    storage: 'body',
    numbers: [],
    digits: '',
  }
  if (major === '1' && minor === '0') {
    map.wantsBlock = true
    return map
  }
  if (major !== undefined && !(major === '0' && (minor === '0' || minor === '1')))
    throw new TarError(`a sparse member has the format ${major}.${minor}; 0.0, 0.1 and 1.0 are known`)
  const numbers =
    last('map')
      ?.split(',')
      .filter(text => text !== '') ??
    records.filter(([key]) => key === 'offset' || key === 'numbytes').map(([, value]) => value)
  addPieces(
    map,
    numbers.map(text => parseWhole(text, 'sparse map')),
  )
  return map
}

/** Takes the next block of a map that is stored outside the headers. */
export function readSparseMap(map: SparseMap, block: Buffer) {
  if (map.storage === 'header') {
    readPieces(map, block, 0, 21)
    map.wantsBlock = block[504] !== 0 && block[504] !== 0x30
    return
  }
  // Lines: the number of pieces, then offset and length of each; padded with NUL to the block's end.
  for (const char of block.toString('latin1')) {
    if (char !== '\n') {
      map.digits += char
      if (map.digits.length > 16) throw new TarError('a sparse map has a number that is too long')
      continue
    }
    map.numbers.push(parseWhole(map.digits, 'sparse map'))
    map.digits = ''
    const [count = 0] = map.numbers
    if (count > piecesMax) throw new TarError(`a sparse map has ${count} pieces; at most ${piecesMax} are read`)
    if (map.numbers.length < 1 + 2 * count) continue
    addPieces(map, map.numbers.slice(1))
    map.numbers = []
    map.wantsBlock = false
    return
  }
}

function addPieces(map: SparseMap, numbers: readonly number[]) {
  if (numbers.length % 2 !== 0) throw new TarError('a sparse map has an offset without a length')
  for (let i = 0; i < numbers.length; i += 2) addPiece(map, numbers[i] ?? 0, numbers[i + 1] ?? 0)
}

function readPieces(map: SparseMap, block: Buffer, from: number, count: number) {
  for (let i = 0; i < count; i++) {
    const at = from + i * 24
    if (block[at] === 0 && block[at + 12] === 0) return
    addPiece(map, octal(block, at), octal(block, at + 12))
  }
}

function addPiece(map: SparseMap, at: number, length: number) {
  if (map.pieces.length >= piecesMax) throw new TarError(`a sparse map has more than ${piecesMax} pieces`)
  map.pieces.push({ at, length })
}

/** A twelve-byte field, octal or base-256. */
function octal(block: Buffer, at: number): number {
  if ((block[at] ?? 0) & 0x80) {
    const value = block.readUIntBE(at + 6, 6)
    return value
  }
  const text = block
    .toString('latin1', at, at + 12)
    .replace(/[\0 ]+$/, '')
    .trim()
  const value = /^[0-7]*$/.test(text) ? Number.parseInt(text || '0', 8) : Number.NaN
  if (!Number.isSafeInteger(value)) throw new TarError('a sparse map has a number that is not octal')
  return value
}

// One member of a tar archive. Names are bytes, held as latin1 strings: one byte each in memory, compared and
// sorted like bytes, and never re-encoded on the way to the image.

export type TarKind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo'

export interface TarEntry {
  /** latin1 */
  name: string
  kind: TarKind
  /** Permission bits with setuid, setgid and sticky: 0…0o7777. */
  mode: number
  uid: number
  gid: number
  /** Whole seconds since 1970, negative before it. */
  mtimeS: number
  /** 0…999 999 999, always forward of mtimeS. */
  mtimeNs: number
  /** Bytes of the file as its reader will see them; 0 for everything that is not a file. */
  size: number
  /** Where the body begins in the archive. */
  offset: number
  /** Only for sparse files: where the pieces of the body are. Holes between them read as zero. */
  extents?: readonly Extent[]
  /** Target of symlinks and hard links, latin1. */
  linkName: string
  major: number
  minor: number
  /** Extended attributes, names latin1; absent when there are none. */
  xattrs?: ReadonlyMap<string, Buffer>
}

/** A piece of a sparse file. Bytes. */
export interface Extent {
  /** In the file. */
  at: number
  /** In the archive. */
  offset: number
  length: number
}

export class TarError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'TarError'
  }
}

/** A latin1 name for people: escapes what a terminal or a log must not see, cuts what is too long. */
export function printable(name: string): string {
  const bytes = Buffer.from(name.slice(0, 200), 'latin1')
  const text = bytes.toString('utf8')
  // Valid UTF-8 reads as itself, anything else byte by byte.
  const isUtf8 = Buffer.from(text, 'utf8').equals(bytes)
  const shown = Array.from(isUtf8 ? text : bytes.toString('latin1'), char => escapeChar(char, isUtf8 ? 0xa0 : 0x100))
  return shown.join('') + (name.length > 200 ? '…' : '')
}

/** @param plainFrom the first code above ASCII that may be shown as it is */
function escapeChar(char: string, plainFrom: number): string {
  if (char === '\\' || char === '"') return `\\${char}`
  const code = char.codePointAt(0) ?? 0
  if (code < 0x20 || (code >= 0x7f && code < plainFrom)) return `\\x${code.toString(16).padStart(2, '0')}`
  // Line separators and bidirectional overrides can make a line read as something else.
  const misleads =
    code === 0x2028 || code === 0x2029 || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069)
  return misleads ? `\\u{${code.toString(16)}}` : char
}

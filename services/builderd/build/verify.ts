// A second look at the finished image, from its bytes alone: it parses, it holds what the tree holds, it hashes to
// what will be published.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type Directory, walk } from '../rootfs/tree.ts'
import { createTarReader } from '../tar/reader.ts'
import type { WrittenTar } from './write-tar.ts'

export async function verifyTar(
  path: string,
  root: Directory,
  written: WrittenTar,
  signal: AbortSignal,
): Promise<number> {
  const hash = createHash('sha256')
  const names = walk(root)
  let entries = 0
  let bytes = 0
  const reader = createTarReader({ entriesLeft: Number.MAX_SAFE_INTEGER }, entry => {
    entries++
    if (entries === 1) return // The root itself.
    const expected = names.next().value
    const name = expected && (expected.node.kind === 'directory' ? `${expected.path}/` : expected.path)
    if (entry.name !== name) throw new Error(`BUG: the image has "${entry.name}" where the tree has "${name}"`)
  })
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024, signal })) {
    hash.update(chunk)
    bytes += chunk.length
    reader.push(chunk)
  }
  reader.end()
  if (!names.next().done) throw new Error('BUG: the image has fewer entries than the tree')
  if (bytes !== written.bytes || hash.digest('hex') !== written.checksum)
    throw new Error('BUG: the image on disk is not what was written')
  return entries
}

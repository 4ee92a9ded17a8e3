import { createHash } from 'node:crypto'

// The tree of RFC 6962: leaves and nodes are hashed with different first bytes, so that neither passes for the other.

export function leafHash(text: string): Buffer {
  return createHash('sha256').update(Buffer.of(0)).update(text, 'utf8').digest()
}

/** Root over leaf hashes in order; of no leaves it is SHA-256 of nothing. */
export function merkleRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return createHash('sha256').digest()
  let level = [...leaves]
  while (level.length > 1) {
    const above: Buffer[] = []
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i], level[i + 1]]
      if (left === undefined) throw new Error('BUG: a level has gaps')
      above.push(right === undefined ? left : nodeHash(left, right))
    }
    level = above
  }
  const [root] = level
  if (root === undefined) throw new Error('BUG: a tree without root')
  return root
}

function nodeHash(left: Buffer, right: Buffer): Buffer {
  return createHash('sha256').update(Buffer.of(1)).update(left).update(right).digest()
}

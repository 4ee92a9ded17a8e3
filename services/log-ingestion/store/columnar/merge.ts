// Blocks of one tenant and day as fewer, larger ones in order, packed harder, with blooms.

import { buildBloom } from './bloom.ts'
import { Block, type BlockSections, tableOf } from './decode.ts'
import type { EncodedBlock } from './encode.ts'
import { cutIntoBlocks } from './fresh.ts'

/** Of zstd: beyond 6 the time doubles for a percent. */
const coldLevel = 6

export function mergeBlocks(
  sections: readonly BlockSections[],
  keeps: readonly Uint8Array[] | undefined,
): EncodedBlock[] {
  const blocks = sections.map(section => new Block(section))
  const kept = keeps && new Map(blocks.map((block, i) => [block, keeps[i]]))
  const table = tableOf(blocks, (block, row) => kept?.get(block)?.[row] !== 0)
  return cutIntoBlocks(table, { level: coldLevel, isCold: true }).map(block => ({
    ...block,
    bloom: buildBloom(new Block(block)),
  }))
}

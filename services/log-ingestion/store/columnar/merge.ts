// Blocks of one tenant and day as fewer, larger ones in order, packed harder, with blooms.

import { buildBloom } from './bloom.ts'
import { Block, type BlockSections, tableOf } from './decode.ts'
import type { EncodedBlock } from './encode.ts'
import { cutIntoBlocks } from './fresh.ts'

/** Of zstd: beyond 6 the time doubles for a percent. */
const coldLevel = 6

export function mergeBlocks(sections: readonly BlockSections[]): EncodedBlock[] {
  const table = tableOf(sections.map(section => new Block(section)))
  return cutIntoBlocks(table, { level: coldLevel, isCold: true }).map(block => ({
    ...block,
    bloom: buildBloom(new Block(block)),
  }))
}

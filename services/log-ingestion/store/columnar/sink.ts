// Blocks as the place where entries go: encoded on another thread, copied in the commit, linked into the chain at its end.

import type { Partitions } from '../rows/partitions.ts'
import type { Sink } from '../sink.ts'
import { insertBlocks } from './blocks.ts'
import { appendLinks } from './chain.ts'
import type { Encoder } from './encoder.ts'

export function columnarSink({ encoder, partitions }: { encoder: Encoder; partitions: Partitions }): Sink {
  return {
    kind: 'columnar',
    async prepare(rows) {
      const { blocks, totals } = await encoder.encode(rows)
      await partitions.ensure(blocks.map(({ day }) => day))
      return {
        write: tx => insertBlocks(tx, blocks, 0),
        link: async tx => void (await appendLinks(tx, blocks)),
        totals,
      }
    },
    forget: () => partitions.forget(),
  }
}

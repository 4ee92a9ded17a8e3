import type { Base, Running } from '#platform/lifecycle'
import type { Config } from './config.ts'

export async function start(_config: Config, _base: Base): Promise<Running> {
  throw new Error('not yet')
}

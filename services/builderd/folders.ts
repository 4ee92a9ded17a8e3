// Where builderd keeps things. Names only; `store/disk.ts` makes and watches them.

import type { Config } from './config.ts'

export interface Folders {
  /** State of this daemon: lock, embedded database. 0700. */
  root: string
  scratch: string
  output: string
  workspace: string
  cache: string
}

const systemRoot = '/var/lib/builderd'

/** @param isSystemRootWritable whether /var/lib/builderd is there and ours to write in */
export function foldersOf(config: Config, isSystemRootWritable: boolean): Folders {
  const root = config.givenDataDir === undefined && isSystemRootWritable ? systemRoot : `${config.dataDir}/builderd`
  return {
    root,
    scratch: config.scratchDir ?? `${root}/scratch`,
    output: config.outputDir ?? `${root}/rootfs`,
    workspace: config.workspaceDir ?? `${root}/workspace`,
    cache: config.cacheDir ?? `${root}/cache`,
  }
}

export { systemRoot }

// Taking things out of the tree, only when asked. Never follows links; what is preserved stays, whatever else says.

import type { PathMatcher } from './globs.ts'
import type { Directory } from './tree.ts'

export interface Optimisation {
  removeCache: boolean
  removeDocs: boolean
  stripDebugSymbols: boolean
  isExcluded: PathMatcher
  isPreserved: PathMatcher
}

/** Folders whose contents go; the folders themselves stay, because programs expect them. */
const cacheFolders = ['var/cache', 'var/lib/apt/lists', 'tmp', 'var/tmp', 'var/log', 'root/.cache']
const docFolders = ['usr/share/doc', 'usr/share/man', 'usr/share/info']
const debugFolders = ['usr/lib/debug']

/** @returns how many names were taken out */
export function optimise(root: Directory, o: Optimisation): number {
  const emptied = new Set([
    ...(o.removeCache ? cacheFolders : []),
    ...(o.removeDocs ? docFolders : []),
    ...(o.stripDebugSymbols ? debugFolders : []),
  ])
  return prune(root, '', false)

  function prune(directory: Directory, prefix: string, isDoomed: boolean): number {
    let removed = 0
    for (const [name, node] of directory.children) {
      const path = prefix + name
      if (o.isPreserved(path)) continue
      const goes =
        isDoomed || o.isExcluded(path) || (o.stripDebugSymbols && node.kind === 'file' && name.endsWith('.debug'))
      if (node.kind === 'directory') removed += prune(node, `${path}/`, goes || emptied.has(path))
      // A directory stays while something preserved is left in it.
      if (goes && !(node.kind === 'directory' && node.children.size > 0)) {
        directory.children.delete(name)
        removed++
      }
    }
    return removed
  }
}

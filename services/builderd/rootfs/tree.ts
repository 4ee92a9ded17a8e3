// The root file system as a tree in memory. File bodies are not in it: a file says which layer file holds its bytes
// and where. Nothing here touches the disk, so no name in an image can reach a path of the host.
//
// A node is an inode; the names are the keys of its parents' `children`. Hard links are one node under several names.

import type { Extent } from '../tar/entry.ts'

interface Inode {
  /** 0…0o7777 */
  mode: number
  uid: number
  gid: number
  mtimeS: number
  mtimeNs: number
  xattrs: ReadonlyMap<string, Buffer> | undefined
}

export interface Directory extends Inode {
  kind: 'directory'
  /** Names are latin1. */
  children: Map<string, Node>
  /** Only while a layer is read; see merge.ts. */
  marks: LayerMarks | undefined
}

export interface LayerMarks {
  /** No entry of the layer names this directory; something below it does. */
  isImplicit: boolean
  /** A mark in the archive hides everything lower layers have in it. */
  isOpaque: boolean
  /** Took the place of something else this layer put here, so nothing of lower layers is left in it. */
  isFresh: boolean
  /** Names of lower layers that are hidden. */
  whiteouts: Set<string> | undefined
}

export interface File extends Inode {
  kind: 'file'
  size: number
  body: Body
}

export type Body =
  /** `layer` counts from 0 at the base; `offset` is in the uncompressed archive. */
  | { in: 'layer'; layer: number; offset: number; extents: readonly Extent[] | undefined }
  | { in: 'memory'; bytes: Buffer }

export interface Symlink extends Inode {
  kind: 'symlink'
  /** latin1 */
  target: string
}

export interface Device extends Inode {
  kind: 'char' | 'block'
  major: number
  minor: number
}

export interface Fifo extends Inode {
  kind: 'fifo'
}

export type Node = Directory | File | Symlink | Device | Fifo

export interface Stamp {
  s: number
  ns: number
}

export function rootOwned(mode: number, mtime: Stamp): Inode {
  return { mode, uid: 0, gid: 0, mtimeS: mtime.s, mtimeNs: mtime.ns, xattrs: undefined }
}

export function newDirectory(mode: number, mtime: Stamp): Directory {
  return { kind: 'directory', ...rootOwned(mode, mtime), children: new Map(), marks: undefined }
}

/**
 * Every name below `root` in byte order, parents before children, without `root` itself. Paths have no leading slash.
 * A stack instead of recursion: delegating generators cost their depth at every step, and depth is the image's choice.
 */
export function* walk(root: Directory): Generator<{ path: string; node: Node }> {
  const open = [{ directory: root, prefix: '', names: [...root.children.keys()].sort(), next: 0 }]
  for (let top = open.at(-1); top; top = open.at(-1)) {
    const name = top.names[top.next++]
    const node = name === undefined ? undefined : top.directory.children.get(name)
    if (!node) {
      open.pop()
      continue
    }
    const path = top.prefix + name
    yield { path, node }
    if (node.kind === 'directory')
      open.push({ directory: node, prefix: `${path}/`, names: [...node.children.keys()].sort(), next: 0 })
  }
}

// Names inside an image: bytes in, parts out, and following links without ever leaving the tree.

import { printable, TarError } from '../tar/entry.ts'
import type { Directory, Node } from './tree.ts'

const partBytesMax = 255
const pathBytesMax = 4_096
/** As many as Linux follows. */
const hopsMax = 40

/** Leading slashes, `.` parts and double slashes fall away; the root itself is the empty list. */
export function splitPath(name: string): string[] {
  if (name.length > pathBytesMax) throw new TarError(`"${printable(name)}" is longer than ${pathBytesMax} bytes`)
  if (name.includes('\0')) throw new TarError(`"${printable(name)}" holds a NUL byte`)
  const parts = name.split('/').filter(part => part !== '' && part !== '.')
  for (const part of parts) {
    if (part === '..') throw new TarError(`"${printable(name)}" has a ".." part`)
    if (part.length > partBytesMax)
      throw new TarError(`"${printable(name)}" has a part longer than ${partBytesMax} bytes`)
  }
  return parts
}

/** How one step of a walk sees a child; merging looks into one tree, or through two at once. */
export interface View<D> {
  root: D
  child(directory: D, name: string): { directory: D } | { node: Node } | undefined
}

export interface Resolved<D> {
  /** Canonical: no links, no dots. */
  parts: string[]
  /** One per part; undefined from where nothing (or no directory) stands. */
  directories: (D | undefined)[]
}

/** Follows `parts` as directories. Links lead to their target inside the tree, `..` above the root stays there. */
export function resolve<D>(view: View<D>, parts: readonly string[], name: string): Resolved<D> {
  const found: Resolved<D> = { parts: [], directories: [] }
  const todo = parts.toReversed()
  let hops = 0
  let bytes = 0
  while (todo.length > 0) {
    const part = todo.pop() ?? ''
    if (part === '..') {
      bytes -= (found.parts.pop() ?? '').length
      found.directories.pop()
      continue
    }
    const parent = found.parts.length === 0 ? view.root : found.directories.at(-1)
    const child = parent === undefined ? undefined : view.child(parent, part)
    if (child && 'node' in child && child.node.kind === 'symlink') {
      hops++
      if (hops > hopsMax) throw new TarError(`"${printable(name)}" leads through more than ${hopsMax} symbolic links`)
      if (child.node.target.startsWith('/')) {
        found.parts.length = 0
        found.directories.length = 0
        bytes = 0
      }
      const target = child.node.target.split('/').filter(step => step !== '' && step !== '.')
      for (const step of target.reverse()) todo.push(step)
      continue
    }
    found.parts.push(part)
    found.directories.push(child && 'directory' in child ? child.directory : undefined)
    bytes += part.length
    if (bytes + found.parts.length > pathBytesMax || part.length > partBytesMax)
      throw new TarError(`"${printable(name)}" leads to a path longer than ${pathBytesMax} bytes`)
  }
  return found
}

/** The finished tree, all links followed. */
export function treeView(root: Directory): View<Directory> {
  return {
    root,
    child(directory, name) {
      const node = directory.children.get(name)
      if (!node) return undefined
      return node.kind === 'directory' ? { directory: node } : { node }
    },
  }
}

/** What stands at an absolute path, following every link, as `stat` does. */
export function find(root: Directory, path: string): Node | undefined {
  const view = treeView(root)
  const parts = path.split('/').filter(part => part !== '' && part !== '.')
  for (let hops = 0; hops <= hopsMax; hops++) {
    const last = parts.pop()
    if (last === undefined) return root
    const directory = directoryAt(view, last === '..' ? [...parts, last] : parts, path)
    if (last === '..') return directory
    const node = directory?.children.get(last)
    if (node?.kind !== 'symlink') return node
    if (node.target.startsWith('/')) parts.length = 0
    parts.push(...node.target.split('/').filter(part => part !== '' && part !== '.'))
  }
  throw new TarError(`"${printable(path)}" leads through more than ${hopsMax} symbolic links`)
}

function directoryAt(view: View<Directory>, parts: readonly string[], path: string): Directory | undefined {
  const { directories } = resolve(view, parts, path)
  return directories.length === 0 ? view.root : directories.at(-1)
}

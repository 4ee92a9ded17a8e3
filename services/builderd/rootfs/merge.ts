// Layers on top of each other, with the meaning overlayfs gives them.
//
// Each layer first becomes a tree of its own ("upper") with marks for what it hides; then the upper tree is laid over
// what the layers below made ("lower"). Two passes, because a whiteout hides lower content only, wherever in the
// archive it stands: seen in one pass, `.wh.a` after `a/new` would take the new file with it.
//
// Links inside the layer are followed when an entry goes below them, as extraction would; a link of a lower layer is
// replaced by a directory, as an overlay would. Hard links are looked up in the layer first, then in the lower tree as
// it was before this layer.

import { printable, type TarEntry, TarError } from '../tar/entry.ts'
import { resolve, splitPath, type View } from './paths.ts'
import { type Directory, type Node, newDirectory, type Stamp } from './tree.ts'
import { keptXattrs } from './xattrs.ts'

const whiteoutPrefix = '.wh.'
const opaqueMark = '.wh..wh..opq'
/** Other names of aufs's own, such as `.wh..wh.plnk`: bookkeeping, not content. */
const aufsPrefix = '.wh..wh.'

export interface Layer {
  /** Entries in archive order. @throws TarError */
  add(entry: TarEntry): void
  /** Lays the layer over the lower tree; once, after the last entry. */
  merge(): void
}

export interface TreeBounds {
  /** Nodes still allowed over all layers, directories made for missing parents included; counted down. */
  nodesLeft: number
}

/** @param index counts layers from 0 at the base; it is what file bodies refer to */
export function openLayer(lower: Directory, index: number, bounds: TreeBounds): Layer {
  const upper = markedDirectory(0o755, { s: 0, ns: 0 }, true)

  function add(entry: TarEntry) {
    const parts = splitPath(entry.name)
    const last = parts.pop()
    if (last === undefined) return addRoot(entry)
    if (isAufsName(parts, last, entry.name)) return
    const parent = openParent(parts, entry)
    if (last === opaqueMark) marksOf(parent).isOpaque = true
    else if (last.startsWith(whiteoutPrefix)) {
      const hidden = last.slice(whiteoutPrefix.length)
      if (hidden === '' || hidden === '.' || hidden === '..')
        throw new TarError(`"${printable(entry.name)}" is a whiteout without a name`)
      const marks = marksOf(parent)
      marks.whiteouts ??= new Set()
      marks.whiteouts.add(hidden)
    } else place(parent, last, entry)
  }

  function addRoot(entry: TarEntry) {
    if (entry.kind !== 'directory')
      throw new TarError(`"${printable(entry.name)}" makes the root something other than a directory`)
    setMetadata(upper, entry)
  }

  /** The directory an entry stands in, made where it is missing. */
  function openParent(parts: readonly string[], entry: TarEntry): Directory {
    const { parts: path, directories } = resolve(upperView, parts, entry.name)
    let directory = upper
    for (const [i, part] of path.entries()) {
      const known = directories[i]
      directory = known ?? makeDirectory(directory, part, entry)
    }
    return directory
  }

  function makeDirectory(parent: Directory, name: string, entry: TarEntry): Directory {
    countNode()
    const made = markedDirectory(0o755, { s: entry.mtimeS, ns: entry.mtimeNs }, true)
    // Where this layer itself put something else before, extraction would have removed the lower directory by now.
    if (parent.children.has(name)) marksOf(made).isFresh = true
    parent.children.set(name, made)
    return made
  }

  function place(parent: Directory, name: string, entry: TarEntry) {
    if (entry.kind === 'directory') {
      const before = parent.children.get(name)
      setMetadata(before?.kind === 'directory' ? before : makeDirectory(parent, name, entry), entry)
      return
    }
    if (entry.kind === 'hardlink') {
      parent.children.set(name, findLinkTarget(entry))
      return
    }
    countNode()
    parent.children.set(name, newNode(entry, index))
  }

  function findLinkTarget(entry: TarEntry): Node {
    const what = `"${printable(entry.name)}" is a hard link to "${printable(entry.linkName)}"`
    const parts = splitPath(entry.linkName)
    const last = parts.pop()
    if (last === undefined) throw new TarError(`${what}, which is a directory`)
    const { parts: path, directories } = resolve(bothView, parts, entry.linkName)
    const parent = path.length === 0 ? bothView.root : directories.at(-1)
    const target = parent && bothView.child(parent, last)
    if (!target) throw new TarError(`${what}, which is not there`)
    if ('directory' in target) throw new TarError(`${what}, which is a directory`)
    return target.node
  }

  function countNode() {
    bounds.nodesLeft--
    if (bounds.nodesLeft < 0) throw new TarError('the image has more files and directories than are read')
  }

  const upperView: View<Directory> = {
    root: upper,
    child(directory, name) {
      const node = directory.children.get(name)
      if (node?.kind === 'directory') return { directory: node }
      return node?.kind === 'symlink' ? { node } : undefined
    },
  }

  /** The lower tree seen through this layer, whiteouts and opaque marks aside: wherever they stand, they only hide. */
  const bothView: View<{ upper: Directory | undefined; lower: Directory | undefined }> = {
    root: { upper, lower },
    child(directory, name) {
      const above = directory.upper?.children.get(name)
      const below = directory.lower?.children.get(name)
      const lowerDirectory = below?.kind === 'directory' ? below : undefined
      if (above?.kind === 'directory')
        return { directory: { upper: above, lower: marksOf(above).isFresh ? undefined : lowerDirectory } }
      if (above) return { node: above }
      if (lowerDirectory) return { directory: { upper: undefined, lower: lowerDirectory } }
      return below && { node: below }
    },
  }

  return { add, merge: () => overlay(lower, upper) }
}

function overlay(lower: Directory, upper: Directory) {
  const marks = marksOf(upper)
  if (!marks.isImplicit) copyMetadata(lower, upper)
  if (marks.isOpaque) lower.children.clear()
  else for (const name of marks.whiteouts ?? []) lower.children.delete(name)
  for (const [name, child] of upper.children) {
    const below = lower.children.get(name)
    if (child.kind === 'directory' && below?.kind === 'directory' && !marksOf(child).isFresh) overlay(below, child)
    else lower.children.set(name, settle(child))
  }
}

/** Takes the marks off a subtree that is laid over nothing. */
function settle(node: Node): Node {
  if (node.kind !== 'directory') return node
  node.marks = undefined
  for (const child of node.children.values()) settle(child)
  return node
}

function isAufsName(parents: readonly string[], last: string, name: string): boolean {
  for (const part of parents) {
    if (part.startsWith(aufsPrefix)) return true
    if (part.startsWith(whiteoutPrefix)) throw new TarError(`"${printable(name)}" lies below a whiteout`)
  }
  return last.startsWith(aufsPrefix) && last !== opaqueMark
}

function newNode(entry: TarEntry, layer: number): Node {
  const inode = {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtimeS: entry.mtimeS,
    mtimeNs: entry.mtimeNs,
    xattrs: keptXattrs(entry.xattrs, entry.name),
  }
  switch (entry.kind) {
    case 'file':
      return {
        kind: 'file',
        ...inode,
        size: entry.size,
        body: { in: 'layer', layer, offset: entry.offset, extents: entry.extents },
      }
    case 'symlink':
      if (entry.linkName === '' || entry.linkName.length > 4_095)
        throw new TarError(`"${printable(entry.name)}" is a symbolic link to nothing, or to more than 4095 bytes`)
      return { kind: 'symlink', ...inode, target: entry.linkName }
    case 'char':
    case 'block':
      return { kind: entry.kind, ...inode, major: entry.major, minor: entry.minor }
    case 'fifo':
      return { kind: 'fifo', ...inode }
    case 'directory':
    case 'hardlink':
      throw new Error(`BUG: ${entry.kind} is placed elsewhere`)
    default:
      return entry.kind satisfies never
  }
}

function markedDirectory(mode: number, mtime: Stamp, isImplicit: boolean): Directory {
  return { ...newDirectory(mode, mtime), marks: { isImplicit, isOpaque: false, isFresh: false, whiteouts: undefined } }
}

function marksOf(directory: Directory) {
  if (!directory.marks) throw new Error('BUG: a directory of the upper layer has no marks')
  return directory.marks
}

function setMetadata(directory: Directory, entry: TarEntry) {
  marksOf(directory).isImplicit = false
  directory.mode = entry.mode
  directory.uid = entry.uid
  directory.gid = entry.gid
  directory.xattrs = keptXattrs(entry.xattrs, entry.name)
  directory.mtimeS = entry.mtimeS
  directory.mtimeNs = entry.mtimeNs
}

function copyMetadata(to: Directory, from: Directory) {
  to.mode = from.mode
  to.uid = from.uid
  to.gid = from.gid
  to.mtimeS = from.mtimeS
  to.mtimeNs = from.mtimeNs
  to.xattrs = from.xattrs
}

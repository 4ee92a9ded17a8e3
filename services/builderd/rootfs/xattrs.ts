// Which extended attributes survive.

import { printable, TarError } from '../tar/entry.ts'

/** Names and values of one node; what ext4 can keep beside an inode and in one block. */
const xattrBytesMax = 4_096

/** `system.` only holds the two ACLs for us; overlayfs's own marks mean nothing outside an overlay. */
export function keptXattrs(
  given: ReadonlyMap<string, Buffer> | undefined,
  path: string,
): ReadonlyMap<string, Buffer> | undefined {
  if (!given) return undefined
  const kept = new Map<string, Buffer>()
  let bytes = 0
  for (const [name, value] of given) {
    if (!isKept(name)) continue
    kept.set(name, value)
    bytes += name.length + value.length
  }
  if (bytes > xattrBytesMax)
    throw new TarError(
      `"${printable(path)}" has ${bytes} bytes of extended attributes; at most ${xattrBytesMax} are kept`,
    )
  return kept.size === 0 ? undefined : kept
}

function isKept(name: string): boolean {
  if (name === 'system.posix_acl_access' || name === 'system.posix_acl_default') return true
  if (name.startsWith('trusted.overlay.')) return false
  return /^(user|trusted|security)\../.test(name)
}

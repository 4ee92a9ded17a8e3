// Who holds a TCP port, as far as /proc lets us see; undefined when it cannot be told.

import { readdir, readFile, readlink } from 'node:fs/promises'

/** `node (pid 4711)`, or undefined on other systems, without permission, or when the holder is gone already. */
export async function holderOf(port: number): Promise<string | undefined> {
  try {
    const inodes = new Set([
      ...(await listeningInodes('/proc/net/tcp', port)),
      ...(await listeningInodes('/proc/net/tcp6', port)),
    ])
    if (inodes.size === 0) return undefined
    for (const pid of await readdir('/proc')) {
      if (/^\d+$/.test(pid) && (await holdsSocket(pid, inodes))) {
        const name = (await readFile(`/proc/${pid}/comm`, 'utf8')).trim()
        return `${name} (pid ${pid})`
      }
    }
  } catch {
    // Not Linux, or /proc is hidden from us: the port's number alone has to do.
  }
  return undefined
}

async function listeningInodes(file: string, port: number): Promise<string[]> {
  const table = await readFile(file, 'utf8').catch(() => '')
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  return table
    .split('\n')
    .slice(1)
    .map(line => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local?.endsWith(`:${hexPort}`) && state === '0A')
    .map(columns => columns[9] ?? '')
}

async function holdsSocket(pid: string, inodes: ReadonlySet<string>): Promise<boolean> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => [])
  for (const fd of descriptors) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1]
    if (inode !== undefined && inodes.has(inode)) return true
  }
  return false
}

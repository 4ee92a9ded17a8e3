// The files a micro-VM needs beside the image's own: the init contract.
//
// Everything happens in the tree. Parents that are links resolve inside the image, whatever stands at the final name
// is replaced, and a directory there fails the build.

import { invalidSource } from '../errors.ts'
import type { Runtime } from '../images/runtime.ts'
import type { Account } from './accounts.ts'
import { find, resolve, treeView } from './paths.ts'
import { type Directory, type Node, newDirectory, rootOwned, type Stamp } from './tree.ts'

export type InitStrategy = 'tini' | 'direct' | 'custom'

export interface InitContract {
  runtime: Runtime
  account: Account
  /** As the image writes it. */
  user: string
  stopSignal: string
  strategy: InitStrategy
  /** The entrypoint the request gave; CUSTOM starts its first word. */
  requestedEntrypoint: readonly string[]
  /** Our init program, when this builderd has one. */
  initBinary: Buffer | undefined
  /** All injected nodes take the image's time of creation: no clock may enter the image. */
  created: Stamp
}

/** Guests refuse larger ones. */
const contractBytesMax = 1024 * 1024
const initPath = '/usr/bin/metald-init'

/** @returns whether the guest will find an init at /usr/bin/metald-init */
export function injectInitContract(root: Directory, contract: InitContract): { hasInit: boolean } {
  for (const [path, mode] of [
    ['/dev', 0o755],
    ['/proc', 0o555],
    ['/sys', 0o555],
    ['/run', 0o755],
    ['/tmp', 0o1777],
  ] as const)
    if (!find(root, path)) put(root, path, newDirectory(mode, contract.created))

  put(root, '/container.cmd', textFile(JSON.stringify(contract.runtime.argv), contract))
  put(root, '/container.env', textFile(JSON.stringify(containerEnv(contract)), contract))
  return { hasInit: contract.strategy === 'custom' ? linkOwnInit(root, contract) : placeOurInit(root, contract) }
}

function containerEnv({ runtime, account, user, strategy, stopSignal }: InitContract) {
  return {
    working_dir: runtime.workingDir,
    env: sortedByKey(runtime.env),
    user,
    exposed_ports: runtime.exposedPorts,
    init_strategy: strategy,
    uid: account.uid,
    gid: account.gid,
    groups: account.groups,
    stop_signal: stopSignal,
  }
}

function placeOurInit(root: Directory, { initBinary, created }: InitContract): boolean {
  if (!initBinary) return false
  const body = { in: 'memory', bytes: initBinary } as const
  put(root, initPath, { kind: 'file', ...rootOwned(0o755, created), size: initBinary.length, body })
  if (!find(root, '/sbin/init')) put(root, '/sbin/init', symlink(initPath, created))
  return true
}

/** CUSTOM: the image brings its own init, and ours is only a name for it. */
function linkOwnInit(root: Directory, { requestedEntrypoint, created }: InitContract): boolean {
  const [own = '/sbin/init'] = requestedEntrypoint
  const node = own.startsWith('/') ? find(root, own) : undefined
  if (node?.kind !== 'file' || (node.mode & 0o111) === 0)
    throw invalidSource(
      `INIT_STRATEGY_CUSTOM needs an executable file at ${JSON.stringify(own)} in the image; there is ${node ? `a ${node.kind} with mode ${node.mode.toString(8)}` : 'none'}.`,
    )
  if (find(root, initPath) !== node) put(root, initPath, symlink(own, created))
  return true
}

function put(root: Directory, path: string, node: Node) {
  const parts = path.split('/').filter(part => part !== '')
  const name = parts.pop() ?? ''
  const { parts: parents, directories } = resolve(treeView(root), parts, path)
  let directory = root
  for (const [i, part] of parents.entries()) {
    const known = directories[i]
    if (!known) {
      if (directory.children.has(part))
        throw invalidSource(`${path} cannot be added: "${part}" is not a directory in the image.`)
      const made = newDirectory(0o755, { s: node.mtimeS, ns: node.mtimeNs })
      directory.children.set(part, made)
      directory = made
    } else directory = known
  }
  if (directory.children.get(name)?.kind === 'directory')
    throw invalidSource(`${path} cannot be added: the image has a directory of that name.`)
  directory.children.set(name, node)
}

function textFile(text: string, { created }: InitContract): Node {
  const bytes = Buffer.from(text, 'utf8')
  if (bytes.length > contractBytesMax)
    throw invalidSource(
      `The command or environment comes to ${bytes.length} bytes; a guest reads at most ${contractBytesMax}.`,
    )
  return { kind: 'file', ...rootOwned(0o644, created), size: bytes.length, body: { in: 'memory', bytes } }
}

function symlink(target: string, created: Stamp): Node {
  return { kind: 'symlink', ...rootOwned(0o777, created), target: Buffer.from(target, 'utf8').toString('latin1') }
}

function sortedByKey(record: Readonly<Record<string, string>>) {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}

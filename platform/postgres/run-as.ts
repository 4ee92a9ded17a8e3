// PostgreSQL refuses to run as root, so a Purser started as root gives it a user id of its own.

import { spawn } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'

export interface RunAs {
  uid: number
  gid: number
}

/** A number that no account uses: it lies in the gap that systemd's allocation (UIDS-GIDS) leaves between its own
 *  ranges. Sharing `nobody` or `postgres` would let every other program under that account read all keys. */
const serverId = 61_054

/** Null unless this process is root. An existing data folder keeps its owner. */
export async function chooseRunAs(dataDir: string): Promise<RunAs | null> {
  if (process.geteuid?.() !== 0) return null
  const owner = await stat(dataDir).catch(() => null)
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  return { uid: serverId, gid: serverId }
}

/** initdb (and only initdb) insists on running under an account that has a name. */
export async function namedAccount(): Promise<RunAs> {
  const lines = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n')
  const accounts = lines.flatMap(line => {
    const [name, , uid, gid] = line.split(':')
    return name && Number(uid) > 0 ? [{ name, uid: Number(uid), gid: Number(gid) }] : []
  })
  const account = accounts.find(({ name }) => name === 'nobody') ?? accounts.at(-1)
  if (!account) {
    throw new Error('initdb needs an account other than root in /etc/passwd (such as nobody), and there is none')
  }
  return { uid: account.uid, gid: account.gid }
}

/** Nothing of our environment, which holds secrets, reaches the server. */
export const serverEnv = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/** Runs to the end; output is bounded. Rejects when the program cannot be started. */
export function runCommand(
  file: string,
  args: readonly string[],
  runAs: RunAs | null,
): Promise<{ exitCode: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      ...(runAs ?? {}),
      cwd: '/',
      env: serverEnv,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-8_000)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    child.once('error', error => reject(explainSpawn(error, runAs)))
    child.once('close', exitCode => resolve({ exitCode, output }))
  })
}

export function explainSpawn(error: Error, runAs: RunAs | null): Error {
  const code = 'code' in error ? error.code : undefined
  if (!runAs || (code !== 'EPERM' && code !== 'EINVAL')) return error
  return new Error(
    `started as root, but not allowed to become user id ${runAs.uid} (${code}), and PostgreSQL does not run as root. ` +
      'Start Purser as an ordinary user, or allow CAP_SETUID, CAP_SETGID and CAP_CHOWN.',
    { cause: error },
  )
}

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, mkdir, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'

const systemDir = '/var/lib/billaged'

/** Where the journal lies: as configured, else the system folder of an installed unit, else beside the platform's data.
 *  A supervised process always keeps to the platform's folder, so that one machine can hold both. */
export async function chooseDataDir(o: {
  configured: string | undefined
  platformDir: string
  isSupervised: boolean
}): Promise<string> {
  const dir =
    o.configured ?? (!o.isSupervised && (await isWritable(systemDir)) ? systemDir : join(o.platformDir, 'billaged'))
  await mkdir(dir, { recursive: true, mode: 0o700 })
  return dir
}

/** The operator key of this installation: as configured, else the one in `admin.key`, made on the first start. */
export async function loadAdminKey(dataDir: string, configured: string | undefined): Promise<string> {
  if (configured !== undefined) return configured
  const path = join(dataDir, 'admin.key')
  const read = async () => (await readFile(path, 'utf8')).trim()
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      await file.writeFile(`${randomBytes(32).toString('base64url')}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  const key = await read()
  if (key.length < 16)
    throw new Error(`${path} holds no key of at least 16 characters; remove it and a new one is made`)
  return key
}

async function isWritable(dir: string): Promise<boolean> {
  return access(dir, constants.W_OK).then(
    () => true,
    () => false,
  )
}

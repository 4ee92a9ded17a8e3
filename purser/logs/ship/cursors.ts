// How far systemd's journal is shipped: the cursor of the last acknowledged entry, and how many entries are in flight
// behind it.

import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { lockFile } from '#platform/lock'

export interface Cursors {
  readonly acknowledged: string | null
  /** Entries of the batch that may or may not have arrived. */
  readonly inflight: number | null
  begin(entries: number): Promise<void>
  done(cursor: string): void
  close(): Promise<void>
}

interface Saved {
  version: 1
  acknowledged: string | null
  inflight: number | null
}

export async function openCursors(dir: string): Promise<Cursors> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const lock = await lockFile(join(dir, 'journald.lock'))
  const name = join(dir, 'journald.json')
  const saved = await readFile(name, 'utf8').then(
    text => JSON.parse(text) as Saved,
    error => {
      if (error.code === 'ENOENT') return undefined
      throw error
    },
  )
  const state: Saved = saved ?? { version: 1, acknowledged: null, inflight: null }
  const save = async () => {
    const file = await open(`${name}.new`, 'w', 0o600)
    try {
      await file.writeFile(JSON.stringify(state))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${name}.new`, name)
  }
  return {
    get acknowledged() {
      return state.acknowledged
    },
    get inflight() {
      return state.inflight
    },
    async begin(entries) {
      state.inflight = entries
      await save()
    },
    done(cursor) {
      state.acknowledged = cursor
      state.inflight = null
    },
    async close() {
      await save()
      lock.release()
    },
  }
}

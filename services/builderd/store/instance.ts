// One daemon per folder, a new name in each of its lives. The name of the life before tells which leases died with it.

import { randomUUID } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lockFile } from '#platform/lock'
import type { Sql } from '#platform/postgres'

export interface Instance {
  id: string
  /** Dead for certain, since its folder is ours now. */
  previousId: string | undefined
  close(): Promise<void>
}

/** @throws AlreadyLocked when another builderd runs on this folder */
export async function openInstance(root: string): Promise<Instance> {
  const lock = await lockFile(join(root, 'lock'))
  const path = join(root, 'instance')
  const previous = await readFile(path, 'utf8').catch(() => '')
  const id = randomUUID()
  await writeFile(`${path}.new`, `${id}\n`, { mode: 0o600 })
  await rename(`${path}.new`, path)
  const previousId = /^[0-9a-f-]{36}$/.test(previous.trim()) ? previous.trim() : undefined
  return { id, previousId, close: async () => lock.release() }
}

export async function registerInstance(sql: Sql, id: string, version: string, capabilities: unknown): Promise<void> {
  await sql`
    insert into builderd.instances (instance_id, version, capabilities, heartbeat_at)
    values (${id}, ${version}, ${JSON.stringify(capabilities)}::text::jsonb, now())`
  await sql`delete from builderd.instances where heartbeat_at < now() - interval '1 day'`
}

export async function loadClusterId(sql: Sql): Promise<string> {
  const [row] = await sql<{ clusterId: string }[]>`select cluster_id as "clusterId" from builderd.cluster`
  if (!row) throw new Error('BUG: the database has no cluster id')
  return row.clusterId
}

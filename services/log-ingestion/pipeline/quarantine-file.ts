// Entries that leave quarantine: a file of JSON lines beside the journal, whole and on disk before they leave the table.

import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { formatMicros } from '../rfc3339.ts'
import type { Quarantined } from '../store/quarantine.ts'

export async function writeExport(dir: string, entries: readonly Quarantined[]): Promise<void> {
  const [first] = entries
  const last = entries.at(-1)
  if (!first || !last) return
  // Named by what is in it: after a crash the same entries make the same file again.
  const path = join(dir, `quarantine-${first.id}-${last.id}.ndjson`)
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    for (const entry of entries) await file.appendFile(`${lineOf(entry)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
  const folder = await open(dir, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** The entry's own text goes in as it is: its numbers must not pass through a double. */
function lineOf({ id, receivedUs, decidedUs, entry, ...rest }: Quarantined): string {
  const fixed = JSON.stringify({
    id: String(id),
    ...rest,
    receivedAt: formatMicros(receivedUs),
    decidedAt: decidedUs === null ? null : formatMicros(decidedUs),
  })
  return `${fixed.slice(0, -1)},"entry":${entry}}`
}

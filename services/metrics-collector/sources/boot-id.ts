// Which boot of the machine this is: monotonic times of two boots cannot be compared.

import { randomUUID } from 'node:crypto'
import { type Roots, readProc } from './files.ts'

/** Where the system does not tell, every process counts as a boot of its own; its clock epochs are then not continued. */
export function readBootId(roots: Roots): string {
  return readProc(roots, 'sys/kernel/random/boot_id')?.trim() || `process-${randomUUID()}`
}

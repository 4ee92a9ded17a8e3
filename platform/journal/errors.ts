// The ways an append or an open can be refused.

/** The journal holds as much unreleased data as it may, or its queue does. Nothing of this append was kept. */
export class JournalFull extends Error {
  /** Whole seconds, for a Retry-After header. */
  readonly retryAfterS: number

  constructor(message: string, retryAfterS: number) {
    super(message)
    this.name = 'JournalFull'
    this.retryAfterS = retryAfterS
  }
}

/** The disk refused. Nothing of this append is acknowledged; a later one works as soon as the disk does. */
export class JournalDiskError extends Error {
  readonly reason: 'DISK_FULL' | 'DISK_ERROR'

  constructor(message: string, reason: 'DISK_FULL' | 'DISK_ERROR', cause?: unknown) {
    super(message, { cause })
    this.name = 'JournalDiskError'
    this.reason = reason
  }
}

/** Another process, or another journal of this one, writes to this folder. */
export class JournalLocked extends Error {
  constructor(dir: string, cause: Error) {
    super(`journal ${dir} has a writer already: ${cause.message}. Give each process its own data folder.`, { cause })
    this.name = 'JournalLocked'
  }
}

/** A segment was written by a newer program. Reading it by guesswork could lose data, so nothing is touched. */
export class JournalTooNew extends Error {
  constructor(path: string, version: number, versionMax: number) {
    super(
      `segment ${path} has format ${version}; this program reads up to ${versionMax}. Start the newer program again.`,
    )
    this.name = 'JournalTooNew'
  }
}

/** The journal was closed by its owner. */
export class JournalClosed extends Error {
  constructor() {
    super('the journal is closed')
    this.name = 'JournalClosed'
  }
}

/** Errors that end when someone frees space; all others need a person or another disk. */
const spaceCodes = new Set(['ENOSPC', 'EDQUOT'])

export function isOutOfSpace(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && spaceCodes.has(error.code)
}

export function diskError(what: string, error: unknown): JournalDiskError {
  if (error instanceof JournalDiskError) return error
  const text = error instanceof Error ? error.message : String(error)
  return isOutOfSpace(error)
    ? new JournalDiskError(
        `${what}: no space left on the device. Free some, or move the data folder.`,
        'DISK_FULL',
        error,
      )
    : new JournalDiskError(`${what}: ${text}`, 'DISK_ERROR', error)
}

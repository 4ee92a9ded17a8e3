// What an error from the database means for the one who was about to write: wait, drop the row, or mend the program.

/** SQLSTATEs that pass by themselves. */
const unavailableStates = new Set([
  '25006', // read-only transaction: a fail-over is under way and this is still the standby
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now: starting up or recovering
  '57P05', // idle_session_timeout
])

/** Class 08 connection exceptions, 53 out of disk, memory or connections, 58 I/O errors below PostgreSQL. */
const unavailableClasses = new Set(['08', '53', '58'])

const unavailableCodes = new Set([
  'CONNECTION_CLOSED',
  'CONNECTION_DESTROYED',
  'CONNECTION_ENDED',
  'CONNECT_TIMEOUT',
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETUNREACH',
  'ENOENT', // no unix socket there (yet)
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
])

/** The database is away, full or starting: worth waiting for with the same data. */
export function isUnavailable(error: unknown): boolean {
  const code = errorCode(error)
  if (code === undefined) return false
  if (isSqlState(code)) return unavailableStates.has(code) || unavailableClasses.has(code.slice(0, 2))
  return unavailableCodes.has(code)
}

/** The data cannot be stored however often one tries: SQLSTATE class 22 (value), 23 (constraint), 54 (size limit). */
export function isDataError(error: unknown): boolean {
  const code = errorCode(error)
  return code !== undefined && isSqlState(code) && ['22', '23', '54'].includes(code.slice(0, 2))
}

/** SQLSTATE, or the code of the driver or the system. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

// Five characters could also be EPIPE: no SQLSTATE class is "EP", and classes that vendors add begin with a digit or I–Z.
function isSqlState(code: string): boolean {
  return /^[0-9A-Z]{5}$/.test(code) && !code.startsWith('E')
}

/** A value that PostgreSQL could not store, found before it was sent; counts as a data error. */
export class UnstorableValue extends Error {
  readonly code = '22021'
  override readonly name = 'UnstorableValue'
}

// The failures this service can name. Every message says what to do next.

/** Cannot start: the sentence goes to standard error and the process exits 1. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

export const alreadyRunning = (pid: number | undefined, lockPath: string) =>
  new StartError(`already running (pid ${pid ?? 'unknown'}, lock ${lockPath}); stop that one first`)

export const newerSchema = (path: string, found: number, known: number) =>
  new StartError(
    `${path} was written by a newer version (schema ${found}, this one knows ${known}); install that version again or move the file aside`,
  )

export const foreignDatabase = (path: string, why: string) =>
  new StartError(`${path} ${why}; set storage.path to another file, or move this one aside`)

export const unusableDatabase = (path: string, reason: string, mend: string) =>
  new StartError(`cannot use the database ${path} as uid ${process.getuid?.() ?? 'unknown'}: ${reason}. ${mend}`)

/** A query this service refuses; answered in Prometheus's error shape. */
export class QueryError extends Error {
  override readonly name = 'QueryError'
  readonly type: 'bad_data' | 'execution' | 'timeout'

  constructor(type: 'bad_data' | 'execution' | 'timeout', message: string) {
    super(message)
    this.type = type
  }
}

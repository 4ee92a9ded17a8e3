// The failures builderd can name. A build that fails carries one of these codes in front of its sentence
// (`INVALID_SOURCE: layer 2 …`); clients and alerts switch on the code, people read the sentence.

export const buildErrorCodes = [
  'INVALID_SOURCE',
  'AUTHENTICATION_FAILED',
  'NETWORK_DENIED',
  'NETWORK_ERROR',
  'REGISTRY_RATE_LIMIT',
  'QUOTA_EXCEEDED',
  'STORAGE_FULL',
  'BUILD_TIMEOUT',
  'BUILD_FAILED',
  'WORKER_LOST',
  'INTERNAL',
] as const

export type BuildErrorCode = (typeof buildErrorCodes)[number]

/** Why a build failed, in words for the tenant who asked for it. Anything private goes into `cause`. */
export class BuildError extends Error {
  readonly code: BuildErrorCode

  constructor(code: BuildErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'BuildError'
    this.code = code
  }
}

export const invalidSource = (message: string, cause?: unknown) => new BuildError('INVALID_SOURCE', message, cause)

/** A value in a request that breaks a rule; answered at once, nothing is stored. */
export class FieldError extends Error {
  readonly field: string

  constructor(field: string, message: string) {
    super(message)
    this.name = 'FieldError'
    this.field = field
  }
}

/** Any thrown value as a failed build: system errors keep their meaning, bugs become INTERNAL without their text. */
export function asBuildError(error: unknown): BuildError {
  if (error instanceof BuildError) return error
  const code = systemCodeOf(error)
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new BuildError(
      'STORAGE_FULL',
      'The disk of this builderd is full. Free space or raise its size, then retry.',
      error,
    )
  return new BuildError(
    'INTERNAL',
    'Something in builderd broke; the log of the service says what. Retry the build.',
    error,
  )
}

export function systemCodeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

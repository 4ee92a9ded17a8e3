// One report of an error, as Honeybadger's clients send it. Pure: bytes are bounded and cleaned before they get here.

import { createHash } from 'node:crypto'

export interface Notice {
  errorClass: string
  message: string
  location: string
  environmentName: string
  tags: string[]
  revision: string | undefined
  hostname: string | undefined
  /** Ready for JSON columns; undefined: nothing was sent. */
  backtrace: Frame[] | undefined
  context: object | undefined
  params: object | undefined
  session: object | undefined
  cookies: object | undefined
  environment: object | undefined
  breadcrumbs: Breadcrumb[] | undefined
}

interface Frame {
  file: string
  line?: number
  function?: string
  code?: unknown
  context?: unknown
  vars?: unknown
}

interface Breadcrumb {
  category: string
  message: string
  metadata?: unknown
  time: string
}

export class NoticeError extends Error {}

const classMax = 255
const messageMax = 10_000
const framesMax = 500
const breadcrumbsMax = 200
const tagsMax = 50

/** @throws NoticeError saying which member is not what it must be */
export function readNotice(body: unknown, nowIso: string): Notice {
  if (!isObject(body)) throw new NoticeError('the body must be an object with a member "error"')
  if (body.error !== undefined && !isObject(body.error)) throw new NoticeError('"error" must be an object')
  const error = objectOf(body.error)
  const request = objectOf(body.request)
  const server = objectOf(body.server)
  if (Object.keys(error).length === 0) throw new NoticeError('"error" is required')
  const backtrace = framesOf(error.backtrace)
  const environmentName = textOf(server.environment_name) || 'production'
  return {
    errorClass: (textOf(error.class) || 'UnknownError').slice(0, classMax),
    message: (textOf(error.message) || 'No error message').slice(0, messageMax),
    location: locationOf(request, backtrace).slice(0, 1_000),
    environmentName: environmentName.slice(0, classMax),
    tags: tagsOf(error.tags),
    revision: textOf(server.revision).slice(0, classMax) || undefined,
    hostname: textOf(server.hostname).slice(0, classMax) || undefined,
    backtrace: backtrace.length > 0 ? backtrace : undefined,
    context: filled(request.context),
    params: filled(request.params),
    session: filled(request.session),
    cookies: filled(request.cookies),
    environment: filled({
      environment_name: environmentName,
      ...(textOf(server.project_root) === '' ? {} : { project_root: server.project_root }),
      ...(textOf(request.url) === '' ? {} : { url: request.url }),
      ...(textOf(request.component) === '' ? {} : { component: request.component }),
      ...(textOf(request.action) === '' ? {} : { action: request.action }),
      ...(isObject(server.data) ? { data: server.data } : {}),
    }),
    breadcrumbs: breadcrumbsOf(objectOf(body.breadcrumbs), nowIso),
  }
}

/** What makes two notices the same fault. */
export function fingerprintOf(
  tenant: string,
  notice: Pick<Notice, 'errorClass' | 'location' | 'environmentName'>,
): Buffer {
  const { errorClass, location, environmentName } = notice
  return createHash('sha256')
    .update(JSON.stringify([tenant, errorClass, location, environmentName]))
    .digest()
}

function locationOf(request: Record<string, unknown>, backtrace: readonly Frame[]): string {
  const component = textOf(request.component)
  const action = textOf(request.action)
  if (component !== '' && action !== '') return `${component}#${action}`
  const [frame] = backtrace
  if (!frame || frame.file === '') return 'unknown'
  return frame.line === undefined ? frame.file : `${frame.file}:${frame.line}`
}

/** Honeybadger's own clients say `number` and `method`; numbers may come as text. */
function framesOf(value: unknown): Frame[] {
  if (!Array.isArray(value)) return []
  return value
    .filter(isObject)
    .slice(0, framesMax)
    .map(frame => {
      const line = Number(frame.line ?? frame.number ?? Number.NaN)
      const name = textOf(frame.function) || textOf(frame.method)
      const code = frame.code ?? frame.source
      return {
        file: textOf(frame.file),
        ...(Number.isInteger(line) ? { line } : {}),
        ...(name === '' ? {} : { function: name }),
        ...(code == null ? {} : { code }),
        ...(frame.context == null ? {} : { context: frame.context }),
        ...(frame.vars == null ? {} : { vars: frame.vars }),
      }
    })
}

function breadcrumbsOf(breadcrumbs: Record<string, unknown>, nowIso: string): Breadcrumb[] | undefined {
  if (breadcrumbs.enabled === false || !Array.isArray(breadcrumbs.trail)) return undefined
  const trail = breadcrumbs.trail
    .filter(isObject)
    .slice(-breadcrumbsMax)
    .map(crumb => ({
      category: textOf(crumb.category) || 'custom',
      message: textOf(crumb.message),
      ...(filled(crumb.metadata) === undefined ? {} : { metadata: crumb.metadata }),
      time: textOf(crumb.time) || textOf(crumb.timestamp) || nowIso,
    }))
  return trail.length > 0 ? trail : undefined
}

/** A list, or words separated by commas as older clients send them. */
function tagsOf(value: unknown): string[] {
  const words = typeof value === 'string' ? value.split(/[\s,]+/) : Array.isArray(value) ? value.map(textOf) : []
  return [...new Set(words.map(word => word.trim().slice(0, 100)).filter(word => word !== ''))].slice(0, tagsMax)
}

function filled(value: unknown): object | undefined {
  if (Array.isArray(value)) return value.length > 0 ? value : undefined
  return isObject(value) && Object.keys(value).length > 0 ? value : undefined
}

function objectOf(value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {}
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value.trim() : typeof value === 'number' ? String(value) : ''
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

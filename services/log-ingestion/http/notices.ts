// Where applications report errors: the guide's route, and the two that Honeybadger's own clients post to.

import type { Readable } from 'node:stream'
import { createGunzip, createInflate } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { isUnavailable } from '#platform/postgres'
import type { Clock } from '#platform/time'
import { NoticeError, readNotice } from '../faults/notice.ts'
import { cleanMetadata, newTally, type Redaction } from '../json/metadata.ts'
import type { Faults } from '../store/faults.ts'
import { guideError } from './admin-caller.ts'
import type { Access } from './caller.ts'
import { authorizeFaults } from './fault-caller.ts'

export interface NoticesContext {
  access: Access
  clock: Clock
  redaction: Redaction
  /** Undefined until the database was there once. */
  faults: () => Faults | undefined
}

const bodyBytesMax = 2 * 1024 * 1024

export function addNotices(app: FastifyInstance, context: NoticesContext): void {
  const post = async (request: FastifyRequest, reply: FastifyReply) => {
    const { tenant } = authorizeFaults(context.access, request, 'faults:write')
    const nowMs = context.clock.now()
    const clean = (value: object) => cleanMetadata(JSON.stringify(value), context.redaction, newTally())
    let notice: ReturnType<typeof readNotice>
    try {
      // Cleaned as a whole first: what is redacted reaches nothing below.
      const body: unknown = JSON.parse(clean({ body: request.body ?? null }))
      notice = readNotice((body as { body: unknown }).body, new Date(nowMs).toISOString())
    } catch (error) {
      if (error instanceof NoticeError) return guideError(reply, 400, 'Invalid request body', error.message)
      throw error
    }
    const faults = context.faults()
    try {
      if (!faults) throw away()
      const { id, faultId } = await faults.record(tenant, notice, { clean: JSON.stringify, nowMs })
      return reply.code(201).send({ id, fault_id: Number(faultId) })
    } catch (error) {
      if (isUnavailable(error)) throw away()
      throw error
    }
  }
  for (const path of ['/api/v1/notices', '/v1/notices', '/v1/notices/js'])
    app.post(path, { bodyLimit: bodyBytesMax, preParsing: decompress }, post)
}

/** Clients keep a notice on 429 and drop it on 5xx, as with log entries. */
function away(): Problem {
  return new Problem({
    status: 429,
    reason: 'STORE_UNAVAILABLE',
    detail: 'The database cannot be asked now; send the notice again.',
    headers: { 'Retry-After': '5' },
    extra: { error: 'Service overloaded' },
  })
}

/** Ruby's client deflates. What comes out counts against the body's limit as it comes, so a bomb ends there. */
async function decompress(request: FastifyRequest, reply: FastifyReply, payload: Readable): Promise<Readable> {
  void reply
  const encoding = request.headers['content-encoding']?.toLowerCase()
  if (encoding === undefined || encoding === 'identity') return payload
  const decoder =
    encoding === 'deflate' ? createInflate() : encoding === 'gzip' || encoding === 'x-gzip' ? createGunzip() : undefined
  if (!decoder)
    throw new Problem({
      status: 415,
      reason: 'UNSUPPORTED_MEDIA_TYPE',
      detail: `Content-Encoding ${encoding} is not taken here; send identity, gzip or deflate.`,
    })
  let receivedBytes = 0
  payload.on('data', (chunk: Buffer) => {
    receivedBytes += chunk.length
  })
  payload.on('error', error => decoder.destroy(error))
  return Object.defineProperty(payload.pipe(decoder), 'receivedEncodedLength', { get: () => receivedBytes })
}

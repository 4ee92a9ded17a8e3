import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { Problem } from '#platform/http'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { badRequest } from '../errors.ts'
import { beginCall, type CallKey, endCall, forgetCall } from '../store/idempotency.ts'

// `Idempotency-Key` on POST: the same call under the same key is done once, and its answer given again for a day. A call
// that was refused leaves nothing behind and may be tried again. What died half-way is free after ten minutes.

const answerBytesMax = 1024 * 1024
/** A grant's id is made of its key and customer: it is remembered for ever, not for a day. */
const ownKeys = new Set(['/v1/credits'])

declare module 'fastify' {
  interface FastifyRequest {
    /** Set while a call with a key runs. */
    idempotentCall: CallKey | null
  }
}

export function idempotency(scope: FastifyInstance, o: { sql: Sql; clock: Clock; log: Logger; key: Buffer }) {
  scope.decorateRequest('idempotentCall', null)

  scope.addHook('preHandler', async (request, reply) => {
    const key = request.headers['idempotency-key']
    if (request.method !== 'POST' || key === undefined || request.billagedCaller === null) return
    if (ownKeys.has(request.routeOptions.url ?? '')) return
    if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key))
      throw badRequest('INVALID_FIELD', 'Idempotency-Key: takes 1 to 255 printable characters without spaces.')
    const { tenant, name } = request.billagedCaller
    const call = { caller: JSON.stringify([tenant, name]), key }
    const digest = createHash('sha256')
      .update(`${request.url}\n${JSON.stringify(request.body ?? null)}`)
      .digest()
    const begun = await beginCall(o.sql, { ...call, digest, nowMs: o.clock.now() })
    switch (begun) {
      case 'begun':
        request.idempotentCall = call
        return
      case 'in_progress':
        throw new Problem({
          status: 409,
          reason: 'IDEMPOTENCY_IN_PROGRESS',
          detail: 'A call with this Idempotency-Key still runs; ask again for its answer.',
          headers: { 'retry-after': '1' },
        })
      case 'other_call':
        throw new Problem({
          status: 422,
          reason: 'IDEMPOTENCY_KEY_REUSED',
          detail: 'This Idempotency-Key came with another call before; every call needs a key of its own.',
        })
    }
    reply.header('idempotency-replayed', 'true').code(begun.status)
    if (begun.contentType !== null) reply.header('content-type', begun.contentType)
    return reply.send(open(o.key, begun.body))
  })

  scope.addHook('onSend', async (request, reply, payload) => {
    const call = request.idempotentCall
    if (call === null) return payload
    request.idempotentCall = null
    const body =
      typeof payload === 'string' ? Buffer.from(payload) : Buffer.isBuffer(payload) ? payload : Buffer.alloc(0)
    const isWhole = payload === undefined || payload === null || typeof payload === 'string' || Buffer.isBuffer(payload)
    try {
      if (reply.statusCode < 300 && isWhole && body.length <= answerBytesMax) {
        const contentType = reply.getHeader('content-type')
        await endCall(o.sql, call, {
          status: reply.statusCode,
          contentType: typeof contentType === 'string' ? contentType : null,
          body: seal(o.key, body),
        })
      } else await forgetCall(o.sql, call)
    } catch (error) {
      // It is done; only asking again with the same key waits until the key is free.
      o.log.warn({ err: error }, 'the answer under an Idempotency-Key could not be kept')
    }
    return payload
  })
}

function seal(key: Buffer, plain: Buffer): Buffer {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function open(key: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12))
  decipher.setAuthTag(sealed.subarray(-16))
  return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()])
}

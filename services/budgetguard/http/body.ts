// A data-plane body, from wire bytes to JSON: bounded before and after decompression.

import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, zstdDecompress } from 'node:zlib'
import type { FastifyRequest } from 'fastify'
import { bodyTooLarge, invalidRequest, Refusal } from '../errors.ts'
import { type JsonObject, parseObject, StrictJsonError } from '../strict-json.ts'

const inflaters = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
  zstd: promisify(zstdDecompress),
}

/** @throws Refusal 413, 415 or 400 */
export async function readObject(request: FastifyRequest, bytesMax: number): Promise<JsonObject> {
  const raw = request.body
  if (!Buffer.isBuffer(raw)) throw invalidRequest('The body is empty; send a JSON object')
  const bytes = await inflated(raw, request.headers['content-encoding'], bytesMax)
  try {
    return parseObject(bytes)
  } catch (error) {
    if (error instanceof StrictJsonError) throw invalidRequest(error.message)
    throw error
  }
}

async function inflated(raw: Buffer, encoding: string | undefined, bytesMax: number): Promise<Buffer> {
  const name = (encoding ?? 'identity').trim().toLowerCase()
  if (name === 'identity') return raw
  if (!isKnown(name))
    throw unsupported(`Content-Encoding ${name.slice(0, 40)}`, `send ${Object.keys(inflaters).join(', ')} or none`)
  try {
    return await inflaters[name](raw, { maxOutputLength: bytesMax })
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ERR_BUFFER_TOO_LARGE') throw bodyTooLarge(bytesMax)
    throw invalidRequest(`The body is not valid ${name}`)
  }
}

function isKnown(name: string): name is keyof typeof inflaters {
  return Object.hasOwn(inflaters, name)
}

/** @throws Refusal 415 unless the type is JSON in UTF-8 */
export function requireJson(request: FastifyRequest): void {
  const type = request.headers['content-type'] ?? ''
  const match = /^\s*application\/(?:[a-z0-9.-]+\+)?json\s*(?:;\s*charset\s*=\s*"?([\w-]+)"?\s*)?$/i.exec(type)
  if (!match)
    throw unsupported(
      type === '' ? 'A body without Content-Type' : `Content-Type ${type.slice(0, 80)}`,
      'send application/json',
    )
  const charset = match[1]?.toLowerCase() ?? 'utf-8'
  if (charset !== 'utf-8' && charset !== 'utf8') throw unsupported(`Charset ${charset}`, 'send UTF-8')
}

function unsupported(what: string, mend: string): Refusal {
  return new Refusal({
    status: 415,
    reason: 'UNSUPPORTED_MEDIA_TYPE',
    message: `${what} is not taken here; ${mend}`,
  })
}

// /admin/model-pricing

import type { FastifyInstance } from 'fastify'
import { formatUsd } from '#platform/money'
import { rfc3339 } from '#platform/time'
import type { ModelPrice } from '../../api.ts'
import { isObject } from '../../dialects/openai/chat.ts'
import { invalidRequest } from '../../errors.ts'
import { type Model, priceAt } from '../../model.ts'
import { changeModel, createModel, type ModelWrite } from '../../store/prices.ts'
import { type Admin, operatorOf } from './admin.ts'
import { amountOf, bodyOf, notFound, textOf } from './input.ts'

export function registerPrices(scope: FastifyInstance, admin: Admin): void {
  const { sql, catalog, clock } = admin
  const money = { config: { need: 'money' as const } }
  const list = () => catalog.current.models.flatMap(model => shape(model, clock.now()))

  scope.get('/admin/model-pricing', async (): Promise<ModelPrice[]> => list())

  scope.post('/admin/model-pricing', money, async (request): Promise<ModelPrice> => {
    const body = bodyOf(request)
    const write = writeOf(body, null)
    const id = await sql.begin(async tx => {
      const created = await createModel(tx, write)
      if (created !== null)
        await admin.tenancy.audit(
          { actor: operatorOf(request).actor, action: 'price.create', object: `model ${write.model}`, after: write },
          tx,
        )
      return { created }
    })
    if (id.created === null)
      throw invalidRequest(`Model ${write.model} already has a price; PUT it to change it`, 'model')
    await admin.changed()
    return mustList(list(), id.created)
  })

  scope.put('/admin/model-pricing/:idOrModel', money, async (request): Promise<ModelPrice> => {
    const params = isObject(request.params) ? request.params : {}
    const name = String(params.idOrModel ?? '')
    const model = /^\d+$/.test(name)
      ? catalog.current.models.find(candidate => candidate.id === Number(name))
      : catalog.current.models.find(candidate => candidate.model === name)
    if (!model) throw notFound('Model pricing')
    const before = priceAt(model, clock.now())
    const write = writeOf(bodyOf(request), {
      provider: model.provider,
      model: model.model,
      versionTag: model.versionTag,
      input: before?.perMillion.input ?? 0n,
      cacheRead: before?.perMillion.cacheRead ?? 0n,
      output: before?.perMillion.output ?? 0n,
      isFree: before?.isFree ?? false,
    })
    if (catalog.current.models.some(other => other.model === write.model && other.id !== model.id))
      throw invalidRequest(`Model ${write.model} already has a price`, 'model')
    await sql.begin(async tx => {
      await changeModel(tx, model.id, write)
      await admin.tenancy.audit(
        {
          actor: operatorOf(request).actor,
          action: 'price.change',
          object: `model ${model.model}`,
          before: before?.perMillion,
          after: write,
        },
        tx,
      )
    })
    await admin.changed()
    return mustList(list(), model.id)
  })
}

function writeOf(body: Record<string, unknown>, before: ModelWrite | null): ModelWrite {
  const required = (value: unknown, name: string) => {
    if (value === undefined || value === null) throw invalidRequest(`Missing ${name}`, name)
    return value
  }
  const model = before && body.model === undefined ? before.model : textOf(required(body.model, 'model'), 'model', 256)
  if (model === '') throw invalidRequest('Missing model', 'model')
  const price = (value: unknown, name: string, known: bigint | undefined) =>
    value === undefined && known !== undefined ? known : amountOf(required(value, name), name)
  const isFree = body.isFree ?? before?.isFree ?? false
  if (typeof isFree !== 'boolean') throw invalidRequest('isFree must be true or false', 'isFree')
  return {
    provider: body.provider === undefined ? (before?.provider ?? 'openai') : textOf(body.provider, 'provider', 64),
    model,
    versionTag:
      body.versionTag === undefined ? (before?.versionTag ?? model) : textOf(body.versionTag, 'versionTag', 256),
    input: price(body.inputPrice, 'inputPrice', before?.input),
    // Where nobody says, cached input costs what input costs: never less than may be billed.
    cacheRead:
      body.cachedInputPrice === undefined && !before
        ? price(body.inputPrice, 'inputPrice', undefined)
        : price(body.cachedInputPrice, 'cachedInputPrice', before?.cacheRead),
    output: price(body.outputPrice, 'outputPrice', before?.output),
    isFree,
  }
}

function mustList(prices: readonly ModelPrice[], id: number): ModelPrice {
  const price = prices.find(candidate => candidate.id === id)
  if (!price) throw new Error(`BUG: model ${id} is not in the catalogue after it was stored`)
  return price
}

function shape(model: Model, nowMs: number): ModelPrice[] {
  const price = priceAt(model, nowMs) ?? model.prices[0]
  if (!price) return []
  return [
    {
      id: model.id,
      model: model.model,
      versionTag: model.versionTag,
      inputPrice: formatUsd(price.perMillion.input),
      cachedInputPrice: formatUsd(price.perMillion.cacheRead),
      outputPrice: formatUsd(price.perMillion.output),
      provider: model.provider,
      createdAt: rfc3339(model.createdAtMs),
      updatedAt: rfc3339(model.updatedAtMs),
      source: price.source,
      isFree: price.isFree,
      effectiveFrom: rfc3339(price.effectiveFromMs),
    },
  ]
}

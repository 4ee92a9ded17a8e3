// What a model name of a caller stands for.

import type { ModelFacts } from './bound.ts'
import type { Price } from './price.ts'

export interface DatedPrice extends Price {
  effectiveFromMs: number
  source: 'guide' | 'operator' | 'built-in'
}

export interface Model {
  id: number
  provider: string
  model: string
  versionTag: string
  facts: ModelFacts
  /** Newest first. */
  prices: readonly DatedPrice[]
  createdAtMs: number
  updatedAtMs: number
}

/** Exact name, dated variant, or provider/name of either. */
export function indexModels(models: readonly Model[]): ReadonlyMap<string, Model> {
  const index = new Map<string, Model>()
  for (const model of models) index.set(model.model, model)
  for (const model of models) if (!index.has(model.versionTag)) index.set(model.versionTag, model)
  for (const model of models)
    for (const name of [model.model, model.versionTag])
      if (!index.has(`${model.provider}/${name}`)) index.set(`${model.provider}/${name}`, model)
  return index
}

/** The name the provider is asked for: what the caller wrote, without our provider prefix. */
export function upstreamName(asked: string, model: Model): string {
  const prefix = `${model.provider}/`
  return asked.startsWith(prefix) && asked !== model.model ? asked.slice(prefix.length) : asked
}

/** The price at an instant: later rows change later calls only. */
export function priceAt(model: Model, atMs: number): DatedPrice | undefined {
  return model.prices.find(price => price.effectiveFromMs <= atMs)
}

// `metrics-collector once`: what the sources say now, without storing anything.

import type { Config } from '../config.ts'
import { type ExposedSample, exposition } from '../exposition.ts'
import { gauge, seriesKey, toSeries, toValue } from '../sample.ts'
import { describeFamily, makeSources } from '../sources/sources.ts'

export async function runOnce(config: Config, out: { write(text: string): void }, err: { write(text: string): void }) {
  const hostLabels = { ...config.externalLabels, device_id: config.deviceId }
  const sources = makeSources(config, {
    time: async () => [gauge('node_time_seconds', Date.now() / 1_000)],
    // Figures about a collector that does not run would only mislead.
    self: async () => [],
  })
  const samples = new Map<string, ExposedSample>()
  let failed = 0
  for (const source of sources) {
    try {
      for (const reading of await source.read()) {
        const series = toSeries(reading, hostLabels)
        const value = toValue(reading.value)
        if (value !== undefined) samples.set(seriesKey(series), { ...series, value })
      }
    } catch (error) {
      failed++
      err.write(`metrics-collector: ${source.name}: ${error instanceof Error ? error.message : String(error)}\n`)
    }
  }
  out.write(exposition([...samples.values()], name => describeFamily(name).help, 'text'))
  return failed === 0 ? 0 : 1
}

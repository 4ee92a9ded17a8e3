// The body of an upload: VictoriaMetrics's JSON lines, one per series. The same samples always give the same bytes,
// because a chunk that is sent again after a crash must be recognisable as the same one.

import type { Labels } from '../sample.ts'

export interface LineSeries {
  name: string
  labels: Labels
  /** Ascending, Unix milliseconds. */
  stampsMs: readonly number[]
  values: readonly number[]
}

/** Labels are sorted already; JSON writes a double with the fewest digits that read back as the same one. */
export function encodeLines(series: readonly LineSeries[]): Buffer {
  const lines = series.map(({ name, labels, stampsMs, values }) => {
    const metric = JSON.stringify({ __name__: name, ...labels })
    return `{"metric":${metric},"values":${JSON.stringify(values)},"timestamps":${JSON.stringify(stampsMs)}}\n`
  })
  return Buffer.from(lines.join(''))
}

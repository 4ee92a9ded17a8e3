// What billaged says of itself on /metrics, as far as the overview shows it.

export interface Sample {
  labels: Readonly<Record<string, string>>
  value: number
}
export type Samples = ReadonlyMap<string, readonly Sample[]>

/** The Prometheus text format, buckets left out: nobody here asks for them. */
export function parseMetrics(text: string): Samples {
  const samples = new Map<string, Sample[]>()
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$/.exec(line)
    const [, name = '', labels = '', text = ''] = match ?? []
    const value = Number(text)
    if (!match || name.endsWith('_bucket') || Number.isNaN(value)) continue
    const list = samples.get(name) ?? []
    list.push({ labels: labelsOf(labels), value })
    samples.set(name, list)
  }
  return samples
}

/** The sum over all labels; null for a metric that is not there. */
export function total(samples: Samples, name: string): number | null {
  const list = samples.get(name)
  return list === undefined ? null : list.reduce((sum, { value }) => sum + value, 0)
}

/** By one label, those above zero only. */
export function byLabel(samples: Samples, name: string, label: string): { key: string; value: number }[] {
  return (samples.get(name) ?? []).flatMap(({ labels, value }) =>
    value > 0 ? [{ key: labels[label] ?? '', value }] : [],
  )
}

export interface Snapshot {
  atMs: number
  samples: Samples
}

/** A counter's rate per second between two looks; null when it began anew in between or there is no second look. */
export function rateOf(before: Snapshot | undefined, now: Snapshot, name: string): number | null {
  if (before === undefined) return null
  const [from, to] = [total(before.samples, name), total(now.samples, name)]
  const seconds = (now.atMs - before.atMs) / 1000
  return from === null || to === null || seconds <= 0 || to < from ? null : (to - from) / seconds
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {}
  for (const [, name = '', value = ''] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
    labels[name] = value.replace(/\\(.)/g, (_, one: string) => (one === 'n' ? '\n' : one))
  return labels
}

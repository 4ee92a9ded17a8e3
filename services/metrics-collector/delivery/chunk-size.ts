// How many samples go into one request.
//
// `auto` starts at 10,000, halves on timeout and when the packed body grows past 256 KiB, and doubles after 8
// successes. A number is the operator's and never exceeded. Either way, when a body is refused, the next ones are each
// half of what is still suspect, until the culprit stands alone.

const autoMax = 10_000
const packedBytesMax = 256 * 1024
const successesToGrow = 8

export interface ChunkSize {
  readonly samples: number
  succeeded(samples: number, packedBytes: number): void
  timedOut(): void
  /** The body of `samples` samples was refused; a single one is the culprit, and the search is over. */
  refused(samples: number): void
}

export function openChunkSize(configured: number | 'auto', batchSize: number): ChunkSize {
  const max = Math.min(configured === 'auto' ? autoMax : configured, batchSize)
  let usual = max
  let successes = 0
  /** Samples among which a culprit is being looked for. */
  let suspects = 0
  const halve = () => {
    successes = 0
    if (configured === 'auto') usual = Math.max(1, Math.ceil(usual / 2))
  }
  return {
    get samples() {
      return suspects > 0 ? Math.min(usual, Math.ceil(suspects / 2)) : usual
    },
    succeeded(samples, packedBytes) {
      if (suspects > 0) suspects = Math.max(0, suspects - samples)
      else if (packedBytes > packedBytesMax) halve()
      else if (++successes >= successesToGrow) {
        successes = 0
        usual = Math.min(max, usual * 2)
      }
    },
    timedOut: halve,
    refused(samples) {
      suspects = samples > 1 ? samples : 0
    },
  }
}

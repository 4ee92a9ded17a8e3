// Content digests: `sha256:` and `sha512:` followed by lower-case hex.

export type DigestAlgorithm = 'sha256' | 'sha512'

export interface Digest {
  algorithm: DigestAlgorithm
  hex: string
}

const hexLength: Readonly<Record<DigestAlgorithm, number>> = { sha256: 64, sha512: 128 }

/** The digest in `text`, or undefined when it is none we can verify. */
export function parseDigest(text: string): Digest | undefined {
  const at = text.indexOf(':')
  const algorithm = text.slice(0, at)
  const hex = text.slice(at + 1)
  if (algorithm !== 'sha256' && algorithm !== 'sha512') return undefined
  if (hex.length !== hexLength[algorithm] || !/^[0-9a-f]+$/.test(hex)) return undefined
  return { algorithm, hex }
}

export function formatDigest(digest: Digest): string {
  return `${digest.algorithm}:${digest.hex}`
}

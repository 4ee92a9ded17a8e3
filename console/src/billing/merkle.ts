// The root of RFC 6962 over the lines of an invoice's evidence, computed here from what the service gave out line by line.

/** Hashing some tens of thousands of lines takes a browser a second or two; above this the command line is the place. */
export const leavesMax = 50_000

export async function merkleRoot(lines: readonly string[], subtle: SubtleCrypto): Promise<string> {
  const encoder = new TextEncoder()
  const digest = async (first: number, ...parts: Uint8Array[]) => {
    const bytes = new Uint8Array(1 + parts.reduce((sum, { length }) => sum + length, 0))
    bytes[0] = first
    let at = 1
    for (const part of parts) {
      bytes.set(part, at)
      at += part.length
    }
    return new Uint8Array(await subtle.digest('SHA-256', bytes))
  }
  if (lines.length === 0) return hexOf(new Uint8Array(await subtle.digest('SHA-256', new Uint8Array())))
  // Leaves and nodes are hashed with different first bytes, so that neither passes for the other.
  let level = await Promise.all(lines.map(line => digest(0, encoder.encode(line))))
  while (level.length > 1) {
    const below = level
    level = await Promise.all(
      Array.from({ length: Math.ceil(below.length / 2) }, (_, i) => {
        const [left, right] = [below[i * 2], below[i * 2 + 1]]
        if (left === undefined) throw new Error('BUG: a level has gaps')
        return right === undefined ? left : digest(1, left, right)
      }),
    )
  }
  return hexOf(level[0] ?? new Uint8Array())
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
}

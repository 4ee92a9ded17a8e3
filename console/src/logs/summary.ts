// A structured line says half of what it means in its metadata. This is the part of it that fits behind the message.

/** Text behind one message. Longer metadata is one click away. */
const summaryCharsMax = 240
const valueCharsMax = 60
const depthMax = 3

type Scalar = string | number | boolean

/** `path=/cart status=500 err.message="not yet"`: scalars in their order, nested names dotted. Stacks and whatever the
 *  message says already are left out. */
export function metadataSummary(metadata: Readonly<Record<string, unknown>> | null, message = ''): string {
  let text = ''
  for (const [name, value] of scalars(metadata ?? {}, '', 0)) {
    if (/(^|\.)stack$/.test(name) || isSaid(value, message)) continue
    const next = `${text && `${text} `}${name}=${shown(value)}`
    if (next.length > summaryCharsMax) break
    text = next
  }
  return text
}

function isSaid(value: Scalar, message: string): boolean {
  return typeof value === 'string' && value.length > 2 && message.includes(value)
}

function* scalars(value: object, path: string, depth: number): Generator<[string, Scalar]> {
  for (const [name, child] of Object.entries(value)) {
    const childPath = path ? `${path}.${name}` : name
    if (isScalar(child)) yield [childPath, child]
    else if (Array.isArray(child) && child.every(isScalar)) yield [childPath, child.join(',')]
    else if (typeof child === 'object' && child !== null && depth < depthMax)
      yield* scalars(child, childPath, depth + 1)
  }
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
}

function shown(value: Scalar): string {
  if (typeof value !== 'string') return String(value)
  const oneLine = value.replace(/\s+/g, ' ').trim()
  const short = oneLine.length > valueCharsMax ? `${oneLine.slice(0, valueCharsMax - 1)}…` : oneLine
  return /^[^\s"=]+$/.test(short) ? short : JSON.stringify(short)
}

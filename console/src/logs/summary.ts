// A structured line says half of what it means in its metadata. This is the part of it that fits behind the message.

/** Text behind one message. Longer metadata is one click away. */
const summaryCharsMax = 240
const valueCharsMax = 60
const depthMax = 3

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

function isSaid(value: string | number | boolean, message: string): boolean {
  return typeof value === 'string' && value.length > 2 && message.includes(value)
}

function* scalars(value: object, path: string, depth: number): Generator<[string, string | number | boolean]> {
  for (const [name, child] of Object.entries(value)) {
    const childPath = path ? `${path}.${name}` : name
    if (typeof child === 'string' || typeof child === 'number' || typeof child === 'boolean') yield [childPath, child]
    else if (typeof child === 'object' && child !== null && depth < depthMax)
      yield* scalars(child, childPath, depth + 1)
  }
}

function shown(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value)
  const oneLine = value.replace(/\s+/g, ' ').trim()
  const short = oneLine.length > valueCharsMax ? `${oneLine.slice(0, valueCharsMax - 1)}…` : oneLine
  return /^[^\s"=]+$/.test(short) ? short : JSON.stringify(short)
}

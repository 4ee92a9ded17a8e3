// Messages grouped into templates: what varies (numbers, ids, addresses, times, quoted texts) becomes a placeholder, and
// messages that then differ in few words are one pattern with <*> in their place.
//
// One pass, bounded memory: a pattern is found by its number of words and its first ones, never by comparing with all.

export interface Pattern {
  template: string
  count: number
  firstSeenNs: bigint
  lastSeenNs: bigint
  /** One message of it, as it was. */
  sample: string
  services: Set<string>
  levels: Set<string>
}

export interface PatternBook {
  add(entry: { message: string; service: string; level: string; timestampNs: bigint }): void
  /** Most frequent first. */
  list(): Pattern[]
  has(template: string): boolean
  /** False: there were more patterns than the book keeps. */
  readonly isComplete: boolean
}

const patternsMax = 2_000
const wordsMax = 64
const charactersMax = 2_048
const sampleCharactersMax = 500
const namesMax = 20
/** Of the words of two messages, how many must be equal to be one pattern. */
const similarity = 0.6

interface Group extends Pattern {
  words: string[]
}

export function createPatternBook(): PatternBook {
  const groups = new Map<string, Group[]>()
  let size = 0
  let isComplete = true

  const find = (words: readonly string[]) => groups.get(bucketOf(words))?.find(group => isSimilar(group.words, words))

  return {
    add({ message, service, level, timestampNs }) {
      const words = wordsOf(message)
      let group = find(words)
      if (group) {
        group.words = group.words.map((word, i) => (word === words[i] ? word : '<*>'))
      } else if (size >= patternsMax) {
        isComplete = false
        return
      } else {
        group = {
          words: [...words],
          template: '',
          count: 0,
          firstSeenNs: timestampNs,
          lastSeenNs: timestampNs,
          sample: message.slice(0, sampleCharactersMax),
          services: new Set(),
          levels: new Set(),
        }
        const bucket = bucketOf(words)
        const list = groups.get(bucket)
        if (list) list.push(group)
        else groups.set(bucket, [group])
        size++
      }
      group.count++
      if (timestampNs < group.firstSeenNs) group.firstSeenNs = timestampNs
      if (timestampNs > group.lastSeenNs) group.lastSeenNs = timestampNs
      if (group.services.size < namesMax) group.services.add(service)
      group.levels.add(level)
    },
    list: () =>
      [...groups.values()]
        .flat()
        .map(group => ({ ...group, template: group.words.join(' ') }))
        .sort((a, b) => b.count - a.count || (a.template < b.template ? -1 : 1)),
    has: template => find(template.split(' ')) !== undefined,
    get isComplete() {
      return isComplete
    },
  }
}

/** Words after masking. A first word that varies would scatter a pattern over many buckets, so masked words count alike. */
function bucketOf(words: readonly string[]): string {
  const first = words[0] ?? ''
  return `${words.length} ${first.includes('<') ? '<' : first}`
}

function isSimilar(known: readonly string[], words: readonly string[]): boolean {
  if (known.length !== words.length) return false
  let equal = 0
  for (const [i, word] of known.entries()) if (word === words[i] || word === '<*>') equal++
  return equal >= known.length * similarity
}

export function wordsOf(message: string): readonly string[] {
  const [line = ''] = message.slice(0, charactersMax).split(/[\r\n]/, 1)
  const words = mask(line)
    .split(/\s+/)
    .filter(word => word !== '')
  return words.length <= wordsMax ? words : [...words.slice(0, wordsMax), '<…>']
}

/** From the most particular to the most general: an address is made of numbers, a time as well. */
const masks: readonly (readonly [RegExp, string])[] = [
  [/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '<text>'],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?/g, '<time>'],
  [/\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b/g, '<uuid>'],
  [/\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+/g, '<email>'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b/g, '<ip>'],
  [/\b0x[0-9a-fA-F]+\b/g, '<hex>'],
  [/\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b/gi, '<hex>'],
  [/(?<![A-Za-z])[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?/g, '<num>'],
]

function mask(text: string): string {
  let masked = text
  for (const [pattern, name] of masks) masked = masked.replaceAll(pattern, name)
  return masked
}

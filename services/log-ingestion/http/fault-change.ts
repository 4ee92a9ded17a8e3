// What a PATCH of a fault may say: five members; the others may be there as they are, so that a client can send back what it got.

import type { FaultPatch } from '../store/faults.ts'

export type FaultChange = { patch: FaultPatch } | { refusal: string }

const tagsMax = 50
const tagMax = 100

export function changesOf(
  body: unknown,
  shown: Readonly<Record<string, unknown>>,
  people: ReadonlyMap<bigint, unknown>,
): FaultChange {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return { refusal: 'the body must be an object' }
  const patch: FaultPatch = {}
  for (const [name, value] of Object.entries(body)) {
    switch (name) {
      case 'resolved':
      case 'ignored':
      case 'public':
        if (typeof value !== 'boolean') return { refusal: `${name} must be true or false` }
        if (name === 'resolved') patch.isResolved = value
        else if (name === 'ignored') patch.isIgnored = value
        else patch.isPublic = value
        break
      case 'assignee_id': {
        if (value === null) patch.assigneeId = null
        else if (typeof value === 'number' && Number.isSafeInteger(value) && people.has(BigInt(value)))
          patch.assigneeId = BigInt(value)
        else return { refusal: `assignee_id ${JSON.stringify(value)} is not the id of a user; null is nobody` }
        break
      }
      case 'tags': {
        const tags = readTags(value)
        if (typeof tags === 'string') return { refusal: tags }
        patch.tags = tags
        break
      }
      default:
        if (!known.has(name)) return { refusal: `${name} is not a member of a fault` }
        if (JSON.stringify(value) !== JSON.stringify(shown[name]) && !(value === null && shown[name] === undefined))
          return { refusal: `${name} cannot be changed; resolved, ignored, assignee_id, tags and public can` }
    }
  }
  return { patch }
}

/** A list of texts, or what is wrong with it. */
export function readTags(value: unknown): string[] | string {
  if (
    !Array.isArray(value) ||
    !value.every(tag => typeof tag === 'string' && tag.trim() !== '' && tag.length <= tagMax)
  )
    return `tags must be a list of texts of 1 to ${tagMax} characters`
  const tags = [...new Set(value.map((tag: string) => tag.trim()))]
  return tags.length > tagsMax ? `a fault has at most ${tagsMax} tags` : tags
}

const known: ReadonlySet<string> = new Set([
  'id',
  'project_id',
  'error_class',
  'message',
  'location',
  'environment',
  'assignee',
  'occurrence_count',
  'first_seen_at',
  'last_seen_at',
  'created_at',
  'updated_at',
])

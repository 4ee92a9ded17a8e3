// `purser logs keys create NAME | list | revoke ID | seal`: credentials that may send.

import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, Misuse } from './main.ts'

interface Key {
  id: number
  name: string
  description: string
  created_at: string
  is_active: boolean
}

export async function keys(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    description: { type: 'string' },
    json: { type: 'boolean' },
  })
  const [verb, word, ...more] = words
  const wants = { create: 1, list: 0, revoke: 1, seal: 0 }[verb ?? '']
  if (wants === undefined || more.length > 0 || (word === undefined) !== (wants === 0))
    throw new Misuse('try: purser logs keys create NAME | list | revoke ID | seal')
  const client = await openClient(env, values)
  const query = values.tenant === undefined ? '' : `?tenant=${encodeURIComponent(values.tenant)}`
  const print = (answer: object, text: string) =>
    process.stdout.write(values.json ? `${JSON.stringify(answer, null, 2)}\n` : text)
  switch (verb) {
    case 'create': {
      const made = await client.call<Key & { key: string }>('POST', `/admin/api/keys${query}`, {
        name: word,
        description: values.description,
      })
      print(made, `${made.key}\n`)
      if (!values.json) process.stderr.write(`key ${made.id} (${made.name}): shown this once\n`)
      return 0
    }
    case 'list': {
      const answer = await client.call<{ keys: Key[] }>('GET', `/admin/api/keys${query}`)
      const width = Math.max(4, ...answer.keys.map(key => key.name.length))
      const line = (id: string, name: string, made: string, state: string) =>
        `${id.padStart(6)}  ${name.padEnd(width)}  ${made.padEnd(20)}  ${state}\n`
      const lines = answer.keys.map(key =>
        line(String(key.id), key.name, `${key.created_at.slice(0, 19)}Z`, key.is_active ? 'active' : 'revoked'),
      )
      print(answer, [line('id', 'name', 'created', 'state'), ...lines].join(''))
      return 0
    }
    case 'revoke': {
      if (!/^\d{1,18}$/.test(word ?? '')) throw new Misuse(`${word} is no key id; see: purser logs keys list`)
      const answer = await client.call<{ message: string }>('DELETE', `/admin/api/keys/${word}${query}`)
      print(answer, `${answer.message}\n`)
      return 0
    }
    default: {
      const answer = await client.call<{ sealed: number; readable: number }>('POST', '/admin/api/keys/seal')
      print(answer, `${answer.sealed} keys sealed, ${answer.readable} still readable in public.api_keys\n`)
      return answer.readable === 0 ? 0 : 1
    }
  }
}

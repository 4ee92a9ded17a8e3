// `purser logs user add [--admin] EMAIL`: an account for the error tracker and the admin routes.

import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, Misuse } from './main.ts'

export async function user(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    admin: { type: 'boolean' },
    name: { type: 'string' },
    json: { type: 'boolean' },
  })
  const [verb, email, ...more] = words
  if (verb !== 'add' || email === undefined || more.length > 0)
    throw new Misuse('try: purser logs user add --admin ann@example.org')
  const client = await openClient(env, values)
  const query = values.tenant === undefined ? '' : `?tenant=${encodeURIComponent(values.tenant)}`
  const made = await client.call<{ user: { id: number; email: string }; password: string }>(
    'POST',
    `/admin/api/users${query}`,
    { email, name: values.name, is_admin: values.admin === true },
  )
  if (values.json) process.stdout.write(`${JSON.stringify(made, null, 2)}\n`)
  else {
    process.stdout.write(`${made.password}\n`)
    process.stderr.write(`user ${made.user.id}, ${made.user.email}: the password above is shown this once\n`)
  }
  return 0
}

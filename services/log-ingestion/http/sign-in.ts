// Signing up and in, in the guide's shapes. Passwords are bcrypt, as older instances on the same table verify them.

import bcrypt from 'bcryptjs'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '#platform/time'
import { createBuckets } from '../access/buckets.ts'
import { mintJwt } from '../access/jwt.ts'
import { storeUnavailable } from '../errors.ts'
import type { User, Users } from '../store/users.ts'
import { asking, guideError } from './admin-caller.ts'
import { setCookie } from './cookie.ts'

export interface SignInContext {
  clock: Clock
  /** Undefined until the database was there once. */
  people: () => { users: Users; jwtSecret: Buffer } | undefined
  isRegistrationOpen: () => boolean
  /** Undefined: there are no pages here, and an admin key needs no session. */
  signInByKey: ((request: FastifyRequest, reply: FastifyReply, adminKey: string) => FastifyReply) | undefined
}

const triesPerMinute = 10
/** What bcrypt looks at; a longer password would be cut without a word. Bytes. */
const passwordBytesMax = 72
const bcryptCost = 10
/** A hash takes a core for 50 ms: a flood of tries must not take the intake's time. */
const checksAtOnceMax = 4
/** Of no password: an unknown address takes as long as a wrong password. */
const hashOfNobody = '$2b$10$2DLMdivnwLvkJ1HudSDxBeasPfLXLJ0CKoCjusUVITNM3el1/oBFy'

export function addSignIn(app: FastifyInstance, context: SignInContext): void {
  const { clock } = context
  const tries = createBuckets({ rps: triesPerMinute / 60, burst: triesPerMinute, clock, keysMax: 10_000 })
  let checks = 0
  const atOnce = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    if (checks >= checksAtOnceMax) return undefined
    checks++
    try {
      return await work()
    } finally {
      checks--
    }
  }
  const people = () => {
    const found = context.people()
    if (!found) throw storeUnavailable('the table of users was not reached yet')
    return found
  }

  const login = async (request: FastifyRequest, reply: FastifyReply) => {
    const adminKey = memberOf(request.body, 'adminKey')
    if (adminKey !== '' && context.signInByKey) return context.signInByKey(request, reply, adminKey)
    const email = normal(memberOf(request.body, 'email'))
    const password = memberOf(request.body, 'password')
    if (email === '' || password === '')
      return reply.code(400).send({ success: false, error: 'Email and password are required' })
    const verdict = tries.take(`${request.ip} ${email.slice(0, 320)}`)
    if (!verdict.allowed) return tooMany(reply, verdict.retryAfterS)
    const { users, jwtSecret } = people()
    const isRight = await atOnce(async () => {
      const found = await asking(() => users.findByEmail(email))
      const isSame = await bcrypt.compare(password, found?.passwordHash || hashOfNobody)
      return isSame && found ? found : null
    })
    if (isRight === undefined) return tooMany(reply, 1)
    if (isRight === null) return reply.code(401).send({ success: false, error: 'Invalid email or password' })
    const { id: userId, ...user } = isRight
    const token = mintJwt(jwtSecret, { userId, ...user }, clock)
    return reply.header('set-cookie', setCookie(request, token)).send({
      success: true,
      message: 'Login successful',
      token,
      user: userJson(isRight),
    })
  }
  app.post('/auth/login', login)
  app.post('/admin/login', login)

  app.post('/auth/register', async (request, reply) => {
    if (!context.isRegistrationOpen()) return guideError(reply, 403, 'Registration is disabled')
    const email = normal(memberOf(request.body, 'email'))
    const name = memberOf(request.body, 'name').trim()
    const password = memberOf(request.body, 'password')
    const fault = faultOf(email, name, password)
    if (fault !== undefined) return guideError(reply, 400, 'Invalid request', fault)
    const verdict = tries.take(`register ${request.ip}`)
    if (!verdict.allowed) return tooMany(reply, verdict.retryAfterS)
    const { users } = people()
    const made = await atOnce(async () => {
      const passwordHash = await bcrypt.hash(password, bcryptCost)
      return { user: await asking(() => users.add({ email, name, passwordHash, isAdmin: false })) }
    })
    if (made === undefined) return tooMany(reply, 1)
    if (made.user === undefined) return guideError(reply, 409, 'A user with this email already exists')
    return reply.code(201).send({ success: true, message: 'Account created successfully', user: userJson(made.user) })
  })
}

/** What is wrong with a new account, or undefined. */
export function faultOf(email: string, name: string, password: string): string | undefined {
  if (!/^[^\s@]+@[^\s@]+$/.test(email) || email.length > 320) return 'email must be an address such as ann@example.org'
  if (name === '' || name.length > 255) return 'name must be a text of 1 to 255 characters'
  if (password.length < 6) return 'password must have at least 6 characters'
  if (Buffer.byteLength(password) > passwordBytesMax) return `password must have at most ${passwordBytesMax} bytes`
  return undefined
}

export function userJson(user: Pick<User, 'id' | 'email' | 'name' | 'isAdmin'>) {
  return { id: user.id, email: user.email, name: user.name, is_admin: user.isAdmin }
}

function normal(email: string): string {
  return email.trim().toLowerCase()
}

function memberOf(body: unknown, name: string): string {
  const value = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[name] : undefined
  return typeof value === 'string' ? value : ''
}

function tooMany(reply: FastifyReply, retryAfterS: number): FastifyReply {
  return reply
    .code(429)
    .header('retry-after', String(retryAfterS))
    .send({ success: false, error: 'Too many attempts; try again later' })
}

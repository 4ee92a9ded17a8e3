// Transactions whose connection is lost while their function is still at work.
//
// The driver (postgres.js 3.4.9) then rejects begin() and forgets the function. Whatever that function asks next, and the
// COMMIT or ROLLBACK that the driver itself sends when it returns, goes to the dead connection, which ends the process
// with a TypeError; or, when the pool has opened that connection again, into the transaction of whoever has it now. Here
// all of it becomes an ordinary CONNECTION_CLOSED, which `isUnavailable` knows.
// transactions.test.ts fails if an update of the driver changes what this relies on.

import type { Sql } from './sql.ts'

type Work = (tx: object) => unknown
type Anything = (...args: unknown[]) => unknown

/** What the driver hands to `onexecute`: one connection, for as long as the pool lives. */
interface Connection {
  id: number
  execute(query: { handler: unknown; reject(error: Error): void }): unknown
}

/** One call of begin(). Its queries are known by their handler; each savepoint has one of its own. */
interface Life {
  isOver: boolean
  handlers: object[]
  connectionId: number | undefined
}

/** The answer must be called by the pool's `onclose`, with the id it gets. */
export function guardTransactions(sql: Sql): (connectionId: number) => void {
  const begin: unknown = Reflect.get(sql, 'begin')
  const unsafe: unknown = Reflect.get(sql, 'unsafe')
  if (!isFunction(begin) || !isFunction(unsafe))
    throw new Error('BUG: the postgres driver changed; see transactions.ts')
  const guardedConnections = new WeakSet<Connection>()
  const deadHandlers = new WeakSet<object>()
  const lives = new Map<number, Life>()
  let starting: Life | undefined

  const refuseTheDead = (connection: Connection) => {
    if (guardedConnections.has(connection)) return
    guardedConnections.add(connection)
    const { execute } = connection
    connection.execute = query => {
      if (typeof query.handler !== 'function' || !deadHandlers.has(query.handler)) return execute(query)
      query.reject(connectionClosed())
      // "There is room for more": the driver leaves the connection in whatever list it is.
      return true
    }
  }

  // begin() asks for its connection by a query with this hook, at once; that is where we get to see the connection.
  Reflect.set(sql, 'unsafe', (text: unknown, values: unknown, options: unknown = {}) => {
    const life = starting
    const onexecute: unknown = Reflect.get(Object(options), 'onexecute')
    if (!life || !isFunction(onexecute)) return unsafe(text, values, options)
    return unsafe(text, values, {
      ...Object(options),
      onexecute(connection: Connection) {
        refuseTheDead(connection)
        life.connectionId = connection.id
        lives.set(connection.id, life)
        return onexecute(connection)
      },
    })
  })

  Reflect.set(sql, 'begin', async (...args: [string, Work] | [Work]) => {
    const [options, work] = args.length === 1 ? (['', args[0]] as const) : args
    const life: Life = { isOver: false, handlers: [], connectionId: undefined }
    starting = life
    try {
      const run = begin(options, (tx: object) => {
        remember(life, tx)
        return work(guarded(tx, life))
      })
      starting = undefined
      return await run
    } finally {
      starting = undefined
      life.isOver = true
      if (life.connectionId !== undefined && lives.get(life.connectionId) === life) lives.delete(life.connectionId)
    }
  })

  return connectionId => {
    const life = lives.get(connectionId)
    if (!life) return
    lives.delete(connectionId)
    life.isOver = true
    for (const handler of life.handlers) deadHandlers.add(handler)
  }
}

function isFunction(value: unknown): value is Anything {
  return typeof value === 'function'
}

/** A query that is never run shows the handler of its scope. One template for all: the driver keeps an Error for every
 *  template it ever saw, and that Error would keep the transaction. */
const noQuery = Object.assign([''], { raw: [''] })

function remember(life: Life, tx: object): void {
  const probe = Reflect.apply(tx as Anything, undefined, [noQuery])
  const handler: unknown = Reflect.get(Object(probe), 'handler')
  if (!isFunction(handler)) throw new Error('BUG: the postgres driver changed; see transactions.ts')
  life.handlers.push(handler)
}

/** The same transaction, asking nothing any more once it is over. */
function guarded(tx: object, life: Life): object {
  const check = () => {
    if (life.isOver) throw connectionClosed()
  }
  return new Proxy(tx, {
    apply(target, self, args) {
      check()
      return Reflect.apply(target as Anything, self, args)
    },
    get(target, key) {
      const value: unknown = Reflect.get(target, key)
      if (!isFunction(value)) return value
      if (key === 'unsafe' || key === 'file')
        return (...args: unknown[]) => {
          check()
          return value(...args)
        }
      if (key === 'savepoint')
        return (...args: unknown[]) => {
          check()
          const inScope = (work: Anything) => (inner: object) => {
            remember(life, inner)
            return work(guarded(inner, life))
          }
          return value(...args.map(arg => (isFunction(arg) ? inScope(arg) : arg)))
        }
      return value
    },
  })
}

function connectionClosed(): Error {
  return Object.assign(new Error('the connection of this transaction was lost'), { code: 'CONNECTION_CLOSED' })
}

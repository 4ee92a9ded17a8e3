// The console's pages: files that were built, and client routes that are all the same page.

import type { FastifyInstance, FastifyReply } from 'fastify'
import { type BuiltFile, cacheControlOf, pageHeaders } from '#platform/http/built-files'

/** By path below /dashboard; empty: not built. */
export type ConsoleFiles = ReadonlyMap<string, BuiltFile>

export function registerPages(app: FastifyInstance, files: ConsoleFiles): void {
  app.get('/', async (_, reply) => reply.redirect('/dashboard', 302))
  app.get('/dashboard', async (_, reply) => sendIndex(reply, files))
  app.get('/dashboard/*', async (request, reply) => {
    const params = request.params
    const path = typeof params === 'object' && params !== null && '*' in params ? String(params['*']) : ''
    const file = files.get(path)
    if (file)
      return reply
        .headers({ ...pageHeaders, 'cache-control': cacheControlOf(path) })
        .type(file.type)
        .send(file.bytes)
    // A client route. A path that looks like a file, or tries to climb, is none.
    if (path.startsWith('assets/') || /[.\\%]/.test(path)) return reply.callNotFound()
    return sendIndex(reply, files)
  })
}

function sendIndex(reply: FastifyReply, files: ConsoleFiles): FastifyReply {
  const index = files.get('index.html')
  reply.headers({ ...pageHeaders, 'cache-control': 'no-cache' })
  if (index) return reply.type(index.type).send(index.bytes)
  return reply.code(503).type('text/html; charset=utf-8').send(notBuilt)
}

const notBuilt = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>The console is not built</title>
<h1>The console is not built</h1>
<p>Everything else runs. Build the console once and start again:</p>
<pre>npm run build:console</pre>
</html>
`

// Bodies of Fastify's routes: JSON, whatever their Content-Type says. Tools that send none, or another, always worked with
// this API; and a text that nobody reads must not make a search for something a search for everything.

import type { FastifyInstance } from 'fastify'

export function readBodiesAsJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser<string>('*', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined)
    else parse(request, body, done)
  })
}

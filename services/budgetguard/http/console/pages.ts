// The console's built files, read once at start: a fixed list, so that no request ever touches the file system.

import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import type { FastifyInstance, FastifyReply } from 'fastify'

interface Asset {
  bytes: Buffer
  type: string
}

export interface ConsoleFiles {
  /** Null: not built. */
  index: Asset | null
  /** By path below /dashboard, such as `assets/index-1a2b.js`. */
  files: ReadonlyMap<string, Asset>
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.json': 'application/json; charset=utf-8',
  '.webmanifest': 'application/manifest+json',
}
const filesMax = 2_000

/** Everything is our own; nothing inline, nothing from elsewhere, in no frame. */
const headers = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': 'camera=(), microphone=(), geolocation=()',
}

export function readConsoleFiles(folder: string): ConsoleFiles {
  const files = new Map<string, Asset>()
  let names: string[]
  try {
    names = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name))
  } catch {
    return { index: null, files }
  }
  for (const path of names.slice(0, filesMax)) {
    const type = types[extname(path)]
    if (type)
      files.set(path.slice(folder.length).replaceAll('\\', '/').replace(/^\/+/, ''), {
        bytes: readFileSync(path),
        type,
      })
  }
  return { index: files.get('index.html') ?? null, files }
}

export function registerPages(app: FastifyInstance, console: ConsoleFiles): void {
  app.get('/', async (_, reply) => reply.redirect('/dashboard', 302))
  app.get('/dashboard', async (_, reply) => sendIndex(reply, console))
  app.get('/dashboard/*', async (request, reply) => {
    const params = request.params
    const path = typeof params === 'object' && params !== null && '*' in params ? String(params['*']) : ''
    const file = console.files.get(path)
    if (file) {
      // The builder puts a hash of the content into the names of what it bundles; other names keep their meaning only.
      const isHashed = /-[A-Za-z0-9_-]{8,}\.[a-z0-9]+$/.test(path)
      return reply
        .headers({ ...headers, 'cache-control': isHashed ? 'public, max-age=31536000, immutable' : 'no-cache' })
        .type(file.type)
        .send(file.bytes)
    }
    // A client route. A path that looks like a file, or tries to climb, is none.
    if (path.startsWith('assets/') || /[.\\%]/.test(path)) return reply.callNotFound()
    return sendIndex(reply, console)
  })
}

function sendIndex(reply: FastifyReply, { index }: ConsoleFiles): FastifyReply {
  reply.headers({ ...headers, 'cache-control': 'no-cache' })
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

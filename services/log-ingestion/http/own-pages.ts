// The log screens of the console, served by this service when it runs alone: under `npm start` budgetguard serves all of it.
// Built files, read once at the start, so that no request touches the file system.
//
// The page learns from a `served-by` mark in its head that there are only these screens, and that what it asks for is here.

import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { extname, join } from 'node:path'

interface Page {
  bytes: Buffer
  type: string
}

/** True: it was answered here. */
export type OwnPages = (request: IncomingMessage, response: ServerResponse) => boolean

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
}
const filesMax = 2_000

/** Everything is our own; nothing inline, nothing from elsewhere, in no frame. */
const headers = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
}

/** Undefined when the console was not built: then there are no pages. */
export function readOwnPages(folder: string): OwnPages | undefined {
  const files = new Map<string, Page>()
  try {
    const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
    for (const entry of entries.slice(0, filesMax)) {
      const path = join(entry.parentPath, entry.name)
      const type = types[extname(path)]
      if (type !== undefined) files.set(path.slice(folder.length), { bytes: readFileSync(path), type })
    }
  } catch {
    return undefined
  }
  const index = files.get('index.html')
  if (!index) return undefined
  const marked = index.bytes
    .toString()
    .replace('<head>', '<head>\n    <meta name="served-by" content="log-ingestion" />')
  const start: Page = { bytes: Buffer.from(marked), type: index.type }

  return (request, response) => {
    const { method = '' } = request
    if (method !== 'GET' && method !== 'HEAD') return false
    const path = (request.url ?? '').split('?', 1)[0] ?? ''
    const file = /^(?:\/dashboard)?\/(assets\/.+)$/.exec(path)?.[1]
    const page = file === undefined ? (/^\/dashboard(?:\/[^.\\%]*)?$/.test(path) ? start : undefined) : files.get(file)
    if (!page) return false
    // The builder puts a hash of the content into the names of what it bundles.
    const isHashed = file !== undefined && /-[A-Za-z0-9_-]{8,}\.[a-z0-9]+$/.test(file)
    response.writeHead(200, {
      ...headers,
      'Content-Type': page.type,
      'Content-Length': page.bytes.length,
      'Cache-Control': isHashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    })
    response.end(method === 'HEAD' ? undefined : page.bytes)
    return true
  }
}

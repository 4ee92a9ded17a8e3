// The log screens of the console, served by this service when it runs alone: under `npm start` budgetguard serves all of it.
// Built files, read once at the start, so that no request touches the file system.
//
// The page learns from a `served-by` mark in its head that there are only these screens, and that what it asks for is here.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { type BuiltFile, cacheControlOf, pageHeaders, readBuiltFiles } from '#platform/http/built-files'

/** True: it was answered here. */
export type OwnPages = (request: IncomingMessage, response: ServerResponse) => boolean

/** Undefined when the console was not built: then there are no pages. */
export function readOwnPages(folder: string): OwnPages | undefined {
  const files = readBuiltFiles(folder)
  const index = files.get('index.html')
  if (!index) return undefined
  const marked = index.bytes
    .toString()
    .replace('<head>', '<head>\n    <meta name="served-by" content="log-ingestion" />')
  const start: BuiltFile = { bytes: Buffer.from(marked), type: index.type }

  return (request, response) => {
    const { method = '' } = request
    if (method !== 'GET' && method !== 'HEAD') return false
    const path = (request.url ?? '').split('?', 1)[0] ?? ''
    const file = /^(?:\/dashboard)?\/(assets\/.+)$/.exec(path)?.[1]
    const page = file === undefined ? (/^\/dashboard(?:\/[^.\\%]*)?$/.test(path) ? start : undefined) : files.get(file)
    if (!page) return false
    response.writeHead(200, {
      ...pageHeaders,
      'Content-Type': page.type,
      'Content-Length': page.bytes.length,
      'Cache-Control': file === undefined ? 'no-cache' : cacheControlOf(file),
    })
    response.end(method === 'HEAD' ? undefined : page.bytes)
    return true
  }
}

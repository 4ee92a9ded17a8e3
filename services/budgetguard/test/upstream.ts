// A provider that does what it is told, politely or not.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

export interface Seen {
  headers: IncomingMessage['headers']
  text: string
  body: Record<string, unknown>
}

export interface Upstream {
  /** For OPENAI_BASE_URL. */
  url: string
  /** Requests so far. */
  seen: Seen[]
  /** What the next requests get. */
  answer: (seen: Seen, response: ServerResponse) => void | Promise<void>
}

export async function startUpstream(t: TestContext): Promise<Upstream> {
  const upstream: Upstream = {
    url: '',
    seen: [],
    answer: (_, response) => void completion(response),
  }
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const chunk of request) parts.push(chunk)
    const text = Buffer.concat(parts).toString('utf8')
    const seen: Seen = { headers: request.headers, text, body: JSON.parse(text) }
    upstream.seen.push(seen)
    await upstream.answer(seen, response)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  upstream.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
  t.after(() => {
    server.closeAllConnections()
    return new Promise<void>(resolve => server.close(() => resolve()))
  })
  return upstream
}

export function json(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(typeof value === 'string' ? value : JSON.stringify(value))
}

export const usage = (prompt: number, completion: number, cached = 0) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  prompt_tokens_details: { cached_tokens: cached },
})

export function completion(response: ServerResponse, value: object = {}): void {
  json(response, 200, {
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 1,
    model: 'gpt-4o-mini-2024-07-18',
    choices: [{ index: 0, message: { role: 'assistant', content: 'fine' }, finish_reason: 'stop' }],
    usage: usage(9, 3),
    ...value,
  })
}

export const chunk = (content: string, finish: string | null = null) =>
  `data: ${JSON.stringify({
    id: 'chatcmpl-2',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'gpt-4o-mini-2024-07-18',
    choices: [{ index: 0, delta: content === '' ? {} : { content }, finish_reason: finish }],
    usage: null,
  })}\n\n`

export const usageChunk = (prompt: number, tokens: number) =>
  `data: ${JSON.stringify({ id: 'chatcmpl-2', object: 'chat.completion.chunk', choices: [], usage: usage(prompt, tokens) })}\n\n`

export const done = 'data: [DONE]\n\n'

export function openEvents(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.flushHeaders()
}

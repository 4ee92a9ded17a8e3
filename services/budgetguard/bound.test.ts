import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Bound,
  defaultOutputLimit,
  holdNano,
  inputBound,
  limitThatFits,
  type ModelFacts,
  unknownFacts,
} from './bound.ts'
import { decodeChat } from './dialects/openai/chat.ts'
import { Refusal } from './errors.ts'
import { costNano, noTokens, onePpm, type Price, tierPpm } from './price.ts'
import { parseObject } from './strict-json.ts'

const price: Price = {
  id: 1,
  provider: 'p',
  model: 'm',
  versionTag: 'm',
  isFree: false,
  perMillion: {
    input: 150_000_000n,
    cacheRead: 75_000_000n,
    cacheWrite5m: 187_500_000n,
    cacheWrite1h: 300_000_000n,
    output: 600_000_000n,
  },
}

const chat = (body: unknown) => decodeChat(parseObject(Buffer.from(JSON.stringify(body))))

const message = fc.record({
  role: fc.constantFrom('system', 'user', 'assistant'),
  content: fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 200 }),
    fc.array(fc.record({ type: fc.constant('text'), text: fc.string({ unit: 'binary', maxLength: 50 }) }), {
      maxLength: 3,
    }),
  ),
})

test('no tokenizer that makes at most one token of a byte, however its provider caches, exceeds the hold', () => {
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 8 }),
      fc.bigInt(1n, 5_000n),
      fc.bigInt(1n, 4n),
      fc.constantFrom(onePpm, tierPpm('priority')),
      fc.bigInt(0n, 100n),
      (messages, limit, choices, ppm, cachedPercent) => {
        const request = chat({ model: 'm', messages })
        const inputTokens = inputBound(request.input, unknownFacts)
        assert.ok(inputTokens !== null)
        const bound: Bound = { inputTokens, choices, predictionTokens: 0n, price, ppm }
        // The worst honest provider: a token per byte of every text, eight more per message, all of it written to the
        // dearest cache or read from it, and every choice as long as its limit.
        const bytes = BigInt(
          messages
            .flatMap(m => (typeof m.content === 'string' ? [m.content] : m.content.map(part => part.text)))
            .reduce((total, text) => total + Buffer.byteLength(text), 0),
        )
        const used = bytes + 8n * BigInt(messages.length)
        const cached = (used * cachedPercent) / 100n
        const cost = costNano(
          { ...noTokens, cacheWrite1h: used - cached, cacheRead: cached, output: limit * choices },
          price,
          ppm,
        )
        assert.ok(cost <= holdNano(bound, limit))
      },
    ),
  )
})

test('the limit that fits a headroom is the largest one whose hold does', () => {
  fc.assert(
    fc.property(
      fc.bigInt(0n, 100_000n),
      fc.bigInt(0n, 10n ** 9n),
      fc.bigInt(1n, 4n),
      (inputTokens, headroom, choices) => {
        const bound: Bound = { inputTokens, choices, predictionTokens: 0n, price, ppm: onePpm }
        const limit = limitThatFits(bound, headroom)
        if (limit < 0n) return assert.ok(holdNano(bound, 0n) > headroom)
        assert.ok(holdNano(bound, limit) <= headroom)
        assert.ok(holdNano(bound, limit + 1n) > headroom)
      },
    ),
  )
})

test('input is never bounded above a known context window, and not at all where its size cannot be seen', () => {
  const facts: ModelFacts = { ...unknownFacts, contextWindow: 1_000n }
  const long = chat({ model: 'm', messages: [{ role: 'user', content: 'x'.repeat(5_000) }] })
  assert.equal(inputBound(long.input, facts), 1_000n)
  const file = chat({ model: 'm', messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: 'f' } }] }] })
  assert.equal(inputBound(file.input, facts), 1_000n)
  assert.equal(inputBound(file.input, unknownFacts), null)
})

test('an inline image counts as an image, not as its bytes', () => {
  const url = `data:image/png;base64,${'A'.repeat(100_000)}`
  const request = chat({
    model: 'm',
    messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }],
  })
  const tokens = inputBound(request.input, unknownFacts)
  assert.ok(tokens !== null && tokens > 50_000n && tokens < 51_000n)
  assert.equal(inputBound(request.input, { ...unknownFacts, imageTokensMax: 1_000n }), tokens - 49_000n)
})

test('what the provider may do at will cannot be bounded, and the refusal names it', () => {
  const messages = [{ role: 'user', content: 'x' }]
  for (const [body, param] of [
    [{ model: 'm', messages, web_search_options: {} }, 'web_search_options'],
    [{ model: 'm', messages, tools: [{ type: 'web_search' }] }, 'tools[0].type'],
    [{ model: 'm', messages, modalities: ['text', 'audio'] }, 'modalities'],
  ] as const)
    assert.throws(
      () => chat(body),
      error => error instanceof Refusal && error.reason === 'UNBOUNDED_COST' && error.param === param,
    )
})

test('a call without a limit gets the smaller of the model’s maximum and the configured one', () => {
  assert.equal(defaultOutputLimit({ ...unknownFacts, outputMax: 4_096n }, 16_384n), 4_096n)
  assert.equal(defaultOutputLimit({ ...unknownFacts, contextWindow: 128_000n }, 16_384n), 16_384n)
  assert.equal(defaultOutputLimit(unknownFacts, 16_384n), 16_384n)
})

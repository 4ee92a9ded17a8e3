import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { createRedis } from '../redis.ts'
import { redisServer, whyNoRedis } from './redis-server.ts'

test('messages reach the subscribers of their installation, also after Redis died and came back', {
  skip: whyNoRedis,
}, async t => {
  const server = await redisServer(t)
  const { log } = testBase(t)
  const open = (namespace: string, url = server.url) => {
    const redis = createRedis(url, log, { namespace })
    t.after(() => redis.close())
    return redis
  }
  const [here, there, elsewhere] = [open('a'), open('a'), open('b')]
  const got: string[] = []
  let begins = 0
  there.subscribe(
    'tail',
    message => got.push(message.toString()),
    () => begins++,
  )
  elsewhere.subscribe('tail', () => got.push('of another installation'))
  const tell = (text: string) =>
    pollUntil(() => here.publish('tail', Buffer.from(text)) && got.includes(text), { what: text, everyMs: 20 })
  await tell('first')
  assert.equal(begins, 1)

  await server.kill()
  await pollUntil(() => !here.isUp && !there.isUp, { what: 'it to be missed' })
  assert.equal(here.publish('tail', Buffer.from('nobody')), false)
  assert.equal(here.status().status, 'degraded')
  await assert.rejects(here.client.get('x'), 'a command does not wait for its return')
  await server.start()
  await tell('second')
  assert.equal(begins, 2, 'who listens is told that there was a gap')
  assert.equal(here.status().status, 'ok')

  const strict = open('a', server.ownUrl)
  await pollUntil(() => strict.isUp, { what: 'another connection' })
  server.pause()
  await assert.rejects(strict.client.get('x'), 'silence is an error after a moment')
  await pollUntil(() => !strict.isUp, { what: 'silence to be taken for absence' })
  server.resume()
  await pollUntil(() => strict.isUp, { what: 'the answers again' })
  await tell('third')
  assert.ok(!got.includes('of another installation') && !got.includes('nobody'))
})

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pollUntil } from '../test/kit/poll.ts'
import { type ChildState, superviseChild } from './child.ts'

/** A process that counts its lives in a file, answers /ready, and does what `behaviour` says. */
async function startChild(t: TestContext, behaviour: string) {
  const dir = mkdtempSync(join(tmpdir(), 'child-'))
  const lives = join(dir, 'lives')
  writeFileSync(lives, '')
  const reserve = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => reserve.once('listening', resolve))
  const { port } = reserve.address() as { port: number }
  await new Promise(resolve => reserve.close(resolve))
  const script = `
    const fs = require('node:fs')
    fs.appendFileSync(${JSON.stringify(lives)}, process.pid + '\\n')
    console.log('{"level":"INFO","msg":"hello"}')
    require('node:http').createServer((q, r) => r.end('ok')).listen(${port}, '127.0.0.1')
    process.stdin.on('close', () => process.exit(0)).resume()
    ${behaviour}`
  const lines: string[] = []
  const states: ChildState[] = []
  const child = superviseChild({
    service: {
      name: 'billaged',
      ports: [],
      url: `http://127.0.0.1:${port}`,
      readyPath: '/ready',
      nodeFlags: [],
      env: { PATH: process.env.PATH ?? '' },
    },
    command: process.execPath,
    args: ['-e', script],
    onLine: line => void lines.push(line),
    onState: state => void states.push(state),
  })
  t.after(async () => {
    await child.stop(1_000)
    rmSync(dir, { recursive: true })
  })
  return { child, lines, states, livesLived: () => readFileSync(lives, 'utf8').trim().split('\n').length }
}

test('a child is ready when it answers, its lines are heard, and it stops on TERM', async t => {
  const { child, lines, states } = await startChild(t, '')
  await child.firstReady
  assert.equal(child.state, 'ready')
  assert.deepEqual(lines, ['{"level":"INFO","msg":"hello"}'])
  await child.stop(5_000)
  assert.deepEqual(states, ['starting', 'ready', 'stopped'])
})

test('a child that dies is started again, however it died', async t => {
  const { child, livesLived, states } = await startChild(t, '')
  await child.firstReady
  process.kill(child.pid ?? 0, 'SIGKILL')
  await pollUntil(() => livesLived() === 2 && child.state === 'ready', { what: 'second life' })
  assert.equal(child.restarts, 1)
  assert.deepEqual(states, ['starting', 'ready', 'waiting', 'starting', 'ready'])
})

test('one that ignores TERM is killed after its time, and stopping during the back-off does not start it again', async t => {
  const deaf = await startChild(t, "process.on('SIGTERM', () => {}); process.stdin.removeAllListeners('close')")
  await deaf.child.firstReady
  await deaf.child.stop(50)
  assert.equal(deaf.child.state, 'stopped')

  const crashing = await startChild(t, 'process.exit(1)')
  await pollUntil(() => crashing.child.state === 'waiting', { what: 'back-off' })
  await crashing.child.stop(1_000)
  assert.equal(crashing.livesLived(), crashing.child.restarts + 1)
  assert.equal(crashing.child.state, 'stopped')
})

import assert from 'node:assert/strict'
import test from 'node:test'
import { builtInMeters, type Meter } from './meter.ts'
import { openMeterList } from './meter-list.ts'

test('reads of the meters that overlap leave each in the list once, and the last ones there are', async () => {
  const [meter] = builtInMeters
  if (meter === undefined) throw new Error('BUG: there are meters')
  const named = (slugs: string[]) => slugs.map((slug): Meter => ({ ...meter, slug }))
  let stored = named(['a'])
  const waiting: (() => void)[] = []
  let isSlow = false
  const list = await openMeterList(async () => {
    const read = stored
    if (isSlow) await new Promise<void>(resolve => waiting.push(resolve))
    return read
  })
  isSlow = true
  const release = async (which: 'first' | 'last') => {
    await new Promise(setImmediate)
    ;(which === 'first' ? waiting.shift() : waiting.pop())?.()
    await new Promise(setImmediate)
  }
  stored = named(['a', 'b'])
  const first = list.reload()
  stored = named(['a', 'b', 'c'])
  const second = list.reload()
  await release('last')
  stored = named(['a', 'b', 'c', 'd'])
  const third = list.reload()
  for (const _ of [1, 2, 3]) await release('first')
  await Promise.all([first, second, third])
  assert.deepEqual(
    list.meters.map(({ slug }) => slug),
    ['a', 'b', 'c', 'd'],
  )
})

test('a read that fails is told to who asked for it, and the next one works', async () => {
  let isAway = false
  const list = await openMeterList(async () => {
    if (isAway) throw new Error('away')
    return builtInMeters
  })
  isAway = true
  await assert.rejects(list.reload(), /away/)
  isAway = false
  await list.reload()
  assert.deepEqual(list.meters, builtInMeters)
})

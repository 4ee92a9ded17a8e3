import assert from 'node:assert/strict'
import test from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { createActivity } from './activity.ts'

test('silences of VMs and hosts are told once, with their length; memory forgets who is gone', () => {
  const clock = drivenClock()
  const seen: string[] = []
  const activity = createActivity({
    clock,
    leaseMs: 120_000,
    silenceMsMax: 3_600_000,
    events: {
      gap: (kind, seconds) => seen.push(`${kind} ${seconds}`),
      leaseExpired: instance => seen.push(`expired ${instance}`),
    },
  })
  activity.marked('vm-1', 'start')
  activity.read('vm-1')
  activity.listed('host-1', ['vm-1', 'vm-2'])
  assert.equal(activity.countActive(), 2)
  clock.advance(100_000)
  activity.read('vm-1')
  activity.sweep()
  assert.deepEqual(seen, [])
  clock.advance(200_000)
  activity.sweep()
  activity.sweep()
  activity.read('vm-1')
  activity.listed('host-1', ['vm-1', 'vm-2'])
  assert.deepEqual(seen, ['expired host-1', 'unmeasured 200', 'host_down 360'])
  activity.marked('vm-1', 'stop')
  assert.equal(activity.countActive(), 1)
  clock.advance(3_700_000)
  assert.equal(activity.countActive(), 0)
  assert.equal(activity.size(), 0)
})

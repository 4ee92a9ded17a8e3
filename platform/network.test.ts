import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deniedNetworks, networkProblem } from './network.ts'

test('an address is denied in every spelling that leads to the same place', () => {
  const denied = deniedNetworks(['169.254.0.0/16', 'fe80::/10', '10.0.0.1', 'fd00::1'])
  for (const address of [
    '169.254.169.254',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    '::169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '2002:a9fe:a9fe::1',
    'fe80::1',
    'fe80::1%eth0',
    'febf::',
    '10.0.0.1',
    'fd00::1',
  ])
    assert.equal(denied.has(address), true, address)
  for (const address of [
    '169.253.0.1',
    '10.0.0.2',
    '::ffff:10.0.0.2',
    'fec0::1',
    '::1',
    '2001:db8::1',
    '64:ff9b::a00:2',
  ])
    assert.equal(denied.has(address), false, address)
})

test('what is no network is named', () => {
  assert.equal(networkProblem('10.0.0.0/8'), undefined)
  assert.equal(networkProblem('::1'), undefined)
  for (const text of ['10.0.0.0/33', 'fe80::/129', '10.0.0', 'localhost', '10.0.0.0/8/8', '10.0.0.0/x'])
    assert.ok(networkProblem(text), text)
})

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#platform/time'
import { BuildError } from '../errors.ts'
import type { Descriptor } from '../images/manifest.ts'
import { hostPlatform } from '../images/platform.ts'
import { archive } from '../test/archive.ts'
import { makeImage, sha256, type TestImage } from '../test/image.ts'
import { cutAfter, type Manner, type RudeRegistry, startRudeRegistry } from '../test/rude-registry.ts'
import { temporaryDirectory } from '../test/tools.ts'
import { parseChallenge } from './auth.ts'
import { blobPath, fetchBlob } from './blob.ts'
import { openRegistry, type RegistryOptions } from './client.ts'
import { createNetworkPolicy, isPublic } from './network-policy.ts'
import { resolveImage } from './resolve.ts'

const retry = { tries: 5, baseMs: 1, capMs: 4 }
const signal = new AbortController().signal

/** Random, so that its compressed form is as long and cuts fall inside. */
const body = randomBytes(300_000)
const image = makeImage([archive([{ name: 'big', body }])], { compression: 'none' })
const [layerDigest = ''] = image.layerDigests
const layer: Descriptor = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar',
  digest: layerDigest,
  size: image.blobs.get(layerDigest)?.length ?? 0,
  isAttestation: false,
}

function client(registry: RudeRegistry, more: Partial<RegistryOptions> = {}) {
  return openRegistry({
    registry: registry.address,
    repository: 'team/app',
    rules: { allowedRegistries: undefined, insecureRegistries: [registry.address], allowedPrivateHosts: [] },
    clock: systemClock,
    userAgent: 'test',
    retry,
    ...more,
  })
}

async function fetchLayer(t: TestContext, registry: RudeRegistry, cacheDir = temporaryDirectory(t), blob = layer) {
  const source = client(registry)
  t.after(() => source.close())
  let bytes = 0
  const fetched = await fetchBlob(blob, {
    source,
    cacheDir,
    retry,
    signal,
    mayReuse: true,
    onBytes: n => {
      bytes += n
    },
  })
  return { ...fetched, bytes }
}

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof BuildError, String(error))
  assert.equal(error.code, code)
  assert.match(error.message, message)
  return true
}

test('a cut transfer goes on where it stopped, with Range, and only what is missing is sent', async t => {
  let cuts = 3
  const registry = await startRudeRegistry(t, image, (request, response, path) => {
    const blob = image.blobs.get(path.split('/').at(-1) ?? '')
    if (!path.includes('/blobs/') || !blob || cuts === 0) return false
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    cuts--
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': blob.length - from,
      ...(from > 0 ? { 'content-range': `bytes ${from}-${blob.length - 1}/${blob.length}` } : {}),
    })
    response.write(blob.subarray(from, from + 70_000), () => response.socket?.destroy())
    return true
  })
  const { path, bytes } = await fetchLayer(t, registry)
  assert.deepEqual(readFileSync(path), image.blobs.get(layerDigest))
  assert.equal(bytes, layer.size, 'no byte came twice')
  // How much of a cut answer arrives is the network's affair; each request begins where the last one got.
  const starts = registry.requests.map(r => Number(/^bytes=(\d+)-$/.exec(r.range ?? 'bytes=0-')?.[1]))
  assert.equal(starts.length, 4)
  assert.ok(
    starts.every((start, i) => i === 0 || start > (starts[i - 1] ?? 0)),
    String(starts),
  )
  assert.deepEqual(readdirSync(dirname(path)).length, 1, 'no part and no lock is left')
})

test('a part left by a crash is hashed again and completed; a damaged one ends in a refusal and then in a fresh pull', async t => {
  const bytes = image.blobs.get(layerDigest) ?? Buffer.alloc(0)
  let isBroken = true
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    if (!isBroken || !path.includes('/blobs/')) return false
    // Sends nothing new, so that the tries run out and a part of 0 bytes is left: its name is ours to choose.
    response.writeHead(200, { 'content-length': bytes.length }).write(Buffer.alloc(0), () => response.socket?.destroy())
    return true
  })
  const cacheDir = temporaryDirectory(t)
  await assert.rejects(fetchLayer(t, registry, cacheDir), failsWith('NETWORK_ERROR', /./))
  const directory = dirname(blobPath(cacheDir, layerDigest))
  const part = join(directory, readdirSync(directory).find(name => name.endsWith('.part')) ?? '')
  isBroken = false

  writeFileSync(part, bytes.subarray(0, 100_000))
  assert.equal((await fetchLayer(t, registry, cacheDir)).bytes, layer.size - 100_000)

  rmSync(blobPath(cacheDir, layerDigest))
  writeFileSync(part, Buffer.alloc(100_000, 'x'))
  await assert.rejects(fetchLayer(t, registry, cacheDir), failsWith('INVALID_SOURCE', /thrown away/))
  assert.equal((await fetchLayer(t, registry, cacheDir)).bytes, layer.size)
})

test('a server without Range starts over', async t => {
  let isFirst = true
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    const blob = image.blobs.get(path.split('/').at(-1) ?? '')
    if (!path.includes('/blobs/') || !blob) return false
    if (isFirst) cutAfter(response, blob, 70_000)
    else response.writeHead(200, { 'content-length': blob.length }).end(blob)
    isFirst = false
    return true
  })
  const { path, bytes } = await fetchLayer(t, registry)
  assert.equal(sha256(readFileSync(path)), layerDigest)
  assert.ok(bytes > layer.size && bytes <= layer.size + 70_000, 'what came before the cut came again')
})

test('wrong bytes, too many and too few are refused, and nothing of them stays in the cache', async t => {
  const lie =
    (answer: Buffer): Manner =>
    (_, response, path) => {
      if (!path.includes('/blobs/')) return false
      response.writeHead(200).end(answer)
      return true
    }
  const right = image.blobs.get(layerDigest) ?? Buffer.alloc(0)
  const cases: [Buffer, string, RegExp][] = [
    [Buffer.alloc(right.length), 'INVALID_SOURCE', new RegExp(`the bytes of ${layerDigest} have the digest`)],
    [Buffer.concat([right, Buffer.alloc(1)]), 'INVALID_SOURCE', /more bytes came/],
    [right.subarray(0, 1_000), 'NETWORK_ERROR', /ended after 1000 of/],
  ]
  for (const [answer, code, message] of cases) {
    const registry = await startRudeRegistry(t, image, lie(answer))
    const cacheDir = temporaryDirectory(t)
    await assert.rejects(fetchLayer(t, registry, cacheDir), failsWith(code, message))
    assert.equal(existsSync(blobPath(cacheDir, layerDigest)), false)
  }
})

test('tries end after five, 429 and 503 are waited for, an answer of 404 is final', async t => {
  let left = 0
  let status = 503
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    if (!path.includes('/manifests/') || left-- <= 0) return false
    response.writeHead(status, { 'retry-after': '0' }).end()
    return true
  })
  const source = client(registry)
  t.after(() => source.close())
  left = 4
  assert.ok(await source.fetchManifest('latest', signal))
  left = 5
  await assert.rejects(source.fetchManifest('latest', signal), failsWith('NETWORK_ERROR', /answered 503/))
  left = 5
  status = 429
  await assert.rejects(source.fetchManifest('latest', signal), failsWith('REGISTRY_RATE_LIMIT', /limits how often/))
  left = 1
  status = 404
  const before = registry.requests.length
  assert.equal(await source.fetchManifest('latest', signal), undefined)
  assert.equal(registry.requests.length, before + 1)
})

/** Answers as a registry behind a token server does; both are this one server. */
function tokenManner(expected: { basic?: string }): { manner: Manner; tokens: string[] } {
  const tokens: string[] = []
  let issued = 0
  return {
    tokens,
    manner(request, response, path) {
      if (path.startsWith('/token')) {
        if (expected.basic !== undefined && request.headers.authorization !== expected.basic) {
          response.writeHead(401).end()
          return true
        }
        const token = `t${++issued}`
        tokens.push(path)
        response.writeHead(200).end(JSON.stringify({ token, expires_in: 60 }))
        return true
      }
      if (request.headers.authorization === `Bearer t${issued}` && issued > 0) return false
      const realm = `http://${request.headers.host}/token`
      response
        .writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="reg",scope="repository:other:push"` })
        .end()
      return true
    },
  }
}

test('a token is fetched for exactly this repository, kept, and fetched again when it is refused', async t => {
  const { manner, tokens } = tokenManner({})
  let revokes = 0
  const registry = await startRudeRegistry(t, image, (request, response, path) => {
    // The third use finds the token expired.
    if (request.headers.authorization === 'Bearer t1' && ++revokes === 3) {
      response
        .writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token",service="reg"` })
        .end()
      return true
    }
    return manner(request, response, path)
  })
  const source = client(registry)
  t.after(() => source.close())
  for (let i = 0; i < 4; i++) assert.ok(await source.fetchManifest('latest', signal))
  assert.deepEqual(tokens, Array(2).fill('/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull'))
})

test('credentials go to the token server, wrong ones are AUTHENTICATION_FAILED without another try', async t => {
  const basic = `Basic ${Buffer.from('user:right').toString('base64')}`
  const { manner } = tokenManner({ basic })
  const registry = await startRudeRegistry(t, image, manner)
  const good = client(registry, { credentials: { username: 'user', password: 'right', token: '' } })
  assert.ok(await good.fetchManifest('latest', signal))
  assert.equal(good.isAnonymous, false)
  const before = registry.requests.length
  const bad = client(registry, { credentials: { username: 'user', password: 'wrong', token: '' } })
  await assert.rejects(bad.fetchManifest('latest', signal), (error: unknown) => {
    assert.doesNotMatch(String(error), /wrong/)
    return failsWith('AUTHENTICATION_FAILED', /refuses a token/)(error)
  })
  assert.equal(registry.requests.length, before + 2)
})

test('Basic is answered where it is asked for; without credentials the message says what is missing', async t => {
  const basic = `Basic ${Buffer.from('user:right').toString('base64')}`
  const registry = await startRudeRegistry(t, image, (request, response) => {
    if (request.headers.authorization === basic) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="here"' }).end()
    return true
  })
  const good = client(registry, { credentials: { username: 'user', password: 'right', token: '' } })
  assert.ok(await good.fetchManifest('latest', signal))
  await assert.rejects(
    client(registry).fetchManifest('latest', signal),
    failsWith('AUTHENTICATION_FAILED', /asks for a user name and password/),
  )
})

test('a redirected blob is fetched without the credentials of the registry', async t => {
  const other = await startRudeRegistry(t, image)
  const registry = await startRudeRegistry(t, image, (request, response, path) => {
    if (!request.headers.authorization) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="here"' }).end()
      return true
    }
    if (!path.includes('/blobs/')) return false
    response.writeHead(307, { location: `http://user:pass@${other.address}${path}` }).end()
    return true
  })
  const rules = {
    allowedRegistries: undefined,
    insecureRegistries: [registry.address, other.address],
    allowedPrivateHosts: [],
  }
  const source = client(registry, { rules, credentials: { username: 'u', password: 'p', token: '' } })
  const options = { source, cacheDir: temporaryDirectory(t), retry, signal, mayReuse: true, onBytes() {} }
  await fetchBlob(layer, options)
  assert.equal(other.requests.length, 1)
  assert.equal(other.requests[0]?.authorization, undefined)
})

test('loopback, private and metadata addresses are refused, by name and by number, directly and by redirect', async t => {
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    if (!path.includes('/blobs/')) return false
    response.writeHead(302, { location: 'https://169.254.169.254/latest/meta-data' }).end()
    return true
  })
  await assert.rejects(fetchLayer(t, registry), failsWith('NETWORK_DENIED', /169\.254\.169\.254.*not a public address/))

  for (const host of [registry.address, registry.address.replace('127.0.0.1', 'localhost'), '[::1]:5000', '10.1.2.3'])
    await assert.rejects(
      client(registry, {
        registry: host,
        rules: { allowedRegistries: undefined, insecureRegistries: [], allowedPrivateHosts: [] },
      }).fetchManifest('latest', signal),
      failsWith('NETWORK_DENIED', /not a public address.*ALLOWED_PRIVATE_HOSTS/),
      host,
    )
  assert.equal(registry.requests.length, 1, 'nothing but the redirecting request reached the server')
})

test('what is public and what is not', () => {
  for (const address of ['8.8.8.8', '1.1.1.1', '2606:4700::1111', '172.15.0.1', '100.63.255.255'])
    assert.equal(isPublic(address), true, address)
  for (const address of [
    '127.0.0.1',
    '0.0.0.0',
    '10.0.0.1',
    '172.31.255.255',
    '192.168.0.1',
    '169.254.169.254',
    '100.64.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:8.8.8.8',
    '::ffff:127.0.0.1',
    'fe80::1',
    'fc00::1',
    'fd12::1',
    'ff02::1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
    '2001:db8::1',
    'not an address',
  ])
    assert.equal(isPublic(address), false, address)
})

test('allow lists compare registries, not spellings; listed private hosts and ranges are let through', () => {
  const policy = createNetworkPolicy({
    allowedRegistries: ['docker.io', 'GHCR.io'],
    insecureRegistries: ['registry.lan:5000'],
    allowedPrivateHosts: ['auth.lan', '10.9.0.0/16', 'other.lan:8443'],
  })
  for (const registry of ['docker.io', 'ghcr.io', 'registry.lan:5000']) policy.requireRegistry(registry)
  assert.throws(() => policy.requireRegistry('quay.io'), failsWith('NETWORK_DENIED', /quay\.io is not on the list/))
  assert.deepEqual(policy.requireAddresses('auth.lan', 443, ['10.0.0.1']), ['10.0.0.1'])
  assert.deepEqual(policy.requireAddresses('x', 443, ['10.9.1.1', '10.8.1.1', '8.8.8.8']), ['10.9.1.1', '8.8.8.8'])
  assert.deepEqual(policy.requireAddresses('other.lan', 8443, ['10.0.0.1']), ['10.0.0.1'])
  assert.throws(() => policy.requireAddresses('other.lan', 443, ['10.0.0.1']))
})

test('the tag is asked for once; from then on everything goes by digest, and a wrong one is refused', async t => {
  const registry = await startRudeRegistry(t, image)
  const resolve = (tagsOrDigests: string[], served: RudeRegistry) => {
    const source = client(served)
    t.after(() => source.close())
    return resolveImage({
      source,
      tagsOrDigests,
      platform: hostPlatform(process.arch),
      imageBytesMax: 1e9,
      cacheDir: temporaryDirectory(t),
      retry,
      signal,
      mayReuse: true,
      onBytes() {},
    })
  }
  assert.equal((await resolve(['latest'], registry)).manifestDigest, image.manifestDigest)
  assert.equal((await resolve([image.manifestDigest], registry)).manifestDigest, image.manifestDigest)
  await assert.rejects(
    resolve([`sha256:${'0'.repeat(64)}`], registry),
    failsWith('INVALID_SOURCE', /was served for sha256:000.* has the digest/),
  )
  const missing = await startRudeRegistry(t, image, (_, response, path) => {
    if (!path.endsWith('/manifests/nope')) return false
    response.writeHead(404).end()
    return true
  })
  assert.equal((await resolve(['nope', 'latest'], missing)).manifestDigest, image.manifestDigest)
  await assert.rejects(resolve(['nope'], missing), failsWith('INVALID_SOURCE', /has no manifest nope/))
})

test('an index: this platform is chosen, attestations are not, what is offered is named', async t => {
  const index = (platforms: [string, string][]): TestImage => {
    const manifests = platforms.map(([os, architecture]) => ({
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: image.manifestDigest,
      size: image.manifest.length,
      platform: { os, architecture },
    }))
    return { ...image, manifest: Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })) }
  }
  const { architecture } = hostPlatform(process.arch)
  const serve = async (platforms: [string, string][]) => {
    const served = index(platforms)
    return startRudeRegistry(t, served, (_, response, path) => {
      if (!path.includes('/manifests/')) return false
      const bytes = path.includes('sha256:') ? image.manifest : served.manifest
      response.writeHead(200).end(bytes)
      return true
    })
  }
  const resolve = async (platforms: [string, string][]) => {
    const source = client(await serve(platforms))
    t.after(() => source.close())
    const cacheDir = temporaryDirectory(t)
    const platform = hostPlatform(process.arch)
    return resolveImage({
      source,
      tagsOrDigests: ['a'],
      platform,
      imageBytesMax: 1e9,
      cacheDir,
      retry,
      signal,
      mayReuse: true,
      onBytes() {},
    })
  }
  const found = await resolve([
    ['unknown', 'unknown'],
    ['linux', 's390x'],
    ['linux', architecture],
  ])
  assert.equal(found.manifestDigest, image.manifestDigest, 'the platform’s own manifest, not the index')
  await assert.rejects(
    resolve([
      ['unknown', 'unknown'],
      ['linux', 's390x'],
      ['windows', 'amd64'],
    ]),
    failsWith('INVALID_SOURCE', /it offers linux\/s390x, windows\/amd64\. Choose one with the label purser\.platform/),
  )
})

test('two builds that want one blob fetch it once', async t => {
  const registry = await startRudeRegistry(t, image)
  const cacheDir = temporaryDirectory(t)
  const results = await Promise.all(Array.from({ length: 4 }, () => fetchLayer(t, registry, cacheDir)))
  assert.equal(registry.requests.length, 1)
  assert.equal(results.filter(r => !r.wasCached).length, 1)
})

test('challenges as registries write them', () => {
  assert.deepEqual(
    parseChallenge('Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a,b"'),
    {
      scheme: 'bearer',
      parameters: { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'a,b' },
    },
  )
  assert.equal(parseChallenge('Basic realm="x", Bearer realm="https://y"')?.scheme, 'bearer')
  assert.equal(parseChallenge('BASIC realm=x')?.parameters.realm, 'x')
  assert.equal(parseChallenge('Negotiate'), undefined)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BuildError, FieldError } from '../errors.ts'
import { parseImageConfig, parseManifest } from './manifest.ts'
import { formatReference, parseReference } from './reference.ts'
import { effectiveRuntime, noOverrides, plainPorts } from './runtime.ts'

const hex = 'a'.repeat(64)

test('references by the distribution grammar, with Docker’s short names', () => {
  const cases: [text: string, full: string][] = [
    ['alpine', 'docker.io/library/alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['user/app', 'docker.io/user/app:latest'],
    ['index.docker.io/user/app', 'docker.io/user/app:latest'],
    ['registry-1.docker.io/library/alpine', 'docker.io/library/alpine:latest'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/a/b/c:v1', 'localhost:5000/a/b/c:v1'],
    ['GHCR.io/Owner', 'refused'],
    ['GHCR.io/owner/app', 'ghcr.io/owner/app:latest'],
    ['quay.io:443/a/b', 'quay.io/a/b:latest'],
    ['[::1]:5000/app', '[::1]:5000/app:latest'],
    [`alpine@sha256:${hex}`, `docker.io/library/alpine@sha256:${hex}`],
    [`alpine:3.20@sha256:${hex}`, `docker.io/library/alpine:3.20@sha256:${hex}`],
    ['a.b__c-d---e/f_g', 'a.b__c-d---e/f_g:latest'],
  ]
  for (const [text, full] of cases)
    if (full === 'refused') assert.throws(() => parseReference(text), FieldError, text)
    else if (text.startsWith('a.b')) assert.throws(() => parseReference(text), FieldError, text)
    else assert.equal(formatReference(parseReference(text)), full)
  assert.equal(formatReference(parseReference('alpine', 'registry.lan:5000')), 'registry.lan:5000/alpine:latest')
})

test('what is no reference is refused with the rule it breaks', () => {
  const cases: [text: string, rule: RegExp][] = [
    ['', /printable ASCII/],
    ['-v', /must not start with "-"/],
    ['--privileged', /must not start with "-"/],
    ['a b', /printable ASCII/],
    ['älpine', /printable ASCII/],
    ['https://docker.io/alpine', /must not carry a scheme/],
    ['alpine:', /tag/],
    ['alpine:-x', /tag/],
    [`alpine:${'x'.repeat(129)}`, /tag/],
    ['alpine@sha256:abc', /must end in @sha256/],
    [`alpine@md5:${hex}`, /must end in @sha256/],
    [`a@sha256:${hex}@sha256:${hex}`, /more than one "@"/],
    ['docker.io/../etc', /in its path/],
    ['a//b', /in its path/],
    ['Alpine', /in its path/],
    ['host.example:99999/a', /where a registry host must be/],
    ['-host.example/a', /must not start/],
    [`x/${'y'.repeat(600)}`, /longer than 512/],
  ]
  for (const [text, rule] of cases)
    assert.throws(
      () => parseReference(text),
      (error: unknown) => error instanceof FieldError && rule.test(error.message),
      text,
    )
})

test('parsing a formatted reference gives it back, and no text makes the parser do more than refuse', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 60, unit: fc.constantFrom(...'aB1.:/@-_[]'.split('')) }), text => {
      try {
        const ref = parseReference(text)
        assert.deepEqual(parseReference(formatReference(ref)), ref)
      } catch (error) {
        if (!(error instanceof FieldError)) throw error
      }
    }),
    { numRuns: 3_000 },
  )
})

const descriptor = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: `sha256:${hex}`, size: 1 }
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: `sha256:${hex}`, size: 1 }
const bytes = (json: unknown) => Buffer.from(JSON.stringify(json))
const invalid = (message: RegExp) => (error: unknown) =>
  error instanceof BuildError && error.code === 'INVALID_SOURCE' && message.test(error.message)

test('manifests: OCI and Docker, images and indexes; everything else by name', () => {
  const image = { schemaVersion: 2, config, layers: [descriptor] }
  assert.equal(parseManifest(bytes(image), 'x').kind, 'image')
  assert.equal(parseManifest(bytes({ schemaVersion: 2, manifests: [descriptor] }), 'x').kind, 'index')
  const cases: [json: unknown, contentType: string | undefined, message: RegExp][] = [
    [{ schemaVersion: 1 }, undefined, /schema 1/],
    [image, 'application/vnd.docker.distribution.manifest.v1+prettyjws', /schema 1/],
    [{ ...image, manifests: [] }, undefined, /an index and an image at once/],
    [{ ...image, mediaType: 'application/vnd.oci.image.index.v1+json' }, undefined, /neither an image nor an index/],
    [
      { ...image, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
      'application/vnd.oci.image.index.v1+json',
      /served as/,
    ],
    [{ ...image, config: { ...config, mediaType: 'application/vnd.wasm.config' } }, undefined, /not a container image/],
    [{ ...image, layers: [{ ...descriptor, urls: ['https://x'] }] }, undefined, /foreign layer/],
    [{ ...image, layers: [{ ...descriptor, mediaType: 'text/plain' }] }, undefined, /media type text\/plain/],
    [{ ...image, layers: [{ ...descriptor, digest: 'sha256:../../x' }] }, undefined, /has the digest/],
    [{ ...image, layers: [{ ...descriptor, size: -1 }] }, undefined, /has the size/],
    [{ ...image, layers: Array(513).fill(descriptor) }, undefined, /513 entries; at most 512/],
    [[], undefined, /not a JSON object/],
    ['{', undefined, /not a JSON object/],
  ]
  for (const [json, contentType, message] of cases)
    assert.throws(() => parseManifest(bytes(json), 'x', contentType), invalid(message), String(message))
  assert.throws(() => parseManifest(Buffer.from('{'), 'x'), invalid(/not JSON/))
  assert.throws(() => parseManifest(Buffer.alloc(4_194_305), 'x'), invalid(/at most 4194304/))
})

test('configs of strangers: odd shapes fail by name or count as not said', () => {
  const base = { os: 'linux', architecture: 'amd64', rootfs: { diff_ids: [] } }
  assert.deepEqual(parseImageConfig(bytes({ ...base, created: 'yesterday' }), 'x').created, { s: 0, ns: 0 })
  assert.deepEqual(parseImageConfig(bytes({ ...base, created: '2024-01-02T03:04:05.000000006Z' }), 'x').created, {
    s: 1_704_164_645,
    ns: 6,
  })
  for (const [json, message] of [
    [{ ...base, os: undefined }, /names no os/],
    [{ ...base, config: { Env: 'A=1' } }, /Env is not a list/],
    [{ ...base, config: { Cmd: [1] } }, /not text/],
    [{ ...base, config: { Entrypoint: ['a\0b'] } }, /NUL/],
    [{ ...base, rootfs: { diff_ids: ['md5:1'] } }, /diff ID/],
  ] as const)
    assert.throws(() => parseImageConfig(bytes(json), 'x'), invalid(message), String(message))
  const env = parseImageConfig(bytes({ ...base, config: { Env: ['__proto__=x', 'A=1', 'A=2'] } }), 'x')
  const { env: merged } = effectiveRuntime(env, { ...noOverrides, environment: { B: '3' } })
  assert.deepEqual(Object.entries(merged).sort(), [
    ['A', '2'],
    ['B', '3'],
    ['PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    ['__proto__', 'x'],
  ])
})

test('what runs: an entrypoint from the request drops the image’s command, a command replaces only the command', () => {
  const image = parseImageConfig(
    bytes({
      os: 'linux',
      architecture: 'amd64',
      config: { Entrypoint: ['/e'], Cmd: ['c'], WorkingDir: '/w' },
      rootfs: { diff_ids: [] },
    }),
    'x',
  )
  const argv = (more: object) => effectiveRuntime(image, { ...noOverrides, ...more }).argv
  assert.deepEqual(argv({}), ['/e', 'c'])
  assert.deepEqual(argv({ command: ['d'] }), ['/e', 'd'])
  assert.deepEqual(argv({ entrypoint: ['/f'] }), ['/f'])
  assert.deepEqual(argv({ entrypoint: ['/f'], command: ['d'] }), ['/f', 'd'])
  assert.deepEqual(effectiveRuntime({ ...image, entrypoint: [], command: [] }, noOverrides).argv, ['/bin/sh'])
  assert.deepEqual(plainPorts(['8080/tcp', '53/udp', '443', '8080']), ['53/udp', '443', '8080'])
})

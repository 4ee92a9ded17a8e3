// The whole way from a registry to a root file system, judged by other people's programs.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { systemClock } from '#platform/time'
import type { BuildResult, Job } from '../build/job.ts'
import { runBuild } from '../build/pipeline.ts'
import { BuildError } from '../errors.ts'
import { hostPlatform } from '../images/platform.ts'
import { noOverrides } from '../images/runtime.ts'
import { compressionRatio } from '../rpc/messages.ts'
import { archive, type Member } from './archive.ts'
import { makeImage, sha256, writeLayout } from './image.ts'
import { extract, listFolder } from './listing.ts'
import { startRudeRegistry } from './rude-registry.ts'
import { push, requireTools, run, startRegistry, temporaryDirectory } from './tools.ts'

const nothingAsked = {
  removeCache: false,
  removeDocs: false,
  stripDebugSymbols: false,
  compressBinaries: false,
  excludePatterns: [],
  preservePaths: [],
}

interface Built {
  result: BuildResult
  path: string
  pulledBytes: number
}

async function build(t: TestContext, source: Job['source'], more: Partial<Job> = {}): Promise<Built> {
  const scratchDir = temporaryDirectory(t)
  let pulledBytes = 0
  const registry = source.kind === 'registry' ? [source.registry] : []
  const job: Job = {
    source,
    originalImage: 'test',
    platform: hostPlatform(process.arch),
    runtime: noOverrides,
    initStrategy: 'tini',
    optimisation: nothingAsked,
    rules: { allowedRegistries: undefined, insecureRegistries: registry, allowedPrivateHosts: [] },
    imageBytesMax: 2 ** 40,
    diskBytesMax: 2 ** 40,
    pullTimeoutMs: 60_000,
    cacheDir: temporaryDirectory(t),
    scratchDir,
    userAgent: 'test',
    ...more,
  }
  const result = await runBuild(job, {
    clock: systemClock,
    signal: new AbortController().signal,
    host: {
      log() {},
      progress() {},
      step: async () => {},
      pulled: bytes => {
        pulledBytes += bytes
      },
      pinned: async () => {},
      mayReuse: async () => true,
      have: async () => {},
      reserve: async () => {},
    },
  })
  return { result, path: join(scratchDir, result.file), pulledBytes }
}

function layout(t: TestContext, image: ReturnType<typeof makeImage>): string {
  const directory = temporaryDirectory(t)
  writeLayout(directory, image, 'latest')
  return directory
}

const fromLayout = (root: string) => ({ kind: 'layout', root, path: '.', tag: 'latest' }) as const

const isRoot = process.getuid?.() === 0

/** Layers that use everything at once. Owners and devices need root to be extracted by the judges. */
const mixed: Member[][] = [
  [
    { name: './', type: 'directory', mtimeS: 1_600_000_000 },
    { name: 'bin/', type: 'directory' },
    { name: 'bin/run', body: '#!/bin/sh\n', mode: 0o4755 },
    { name: 'bin/same', type: 'hardlink', link: 'bin/run' },
    { name: 'lib', type: 'symlink', link: 'usr/lib' },
    { name: 'usr/', type: 'directory', mode: 0o711 },
    { name: 'usr/lib/', type: 'directory' },
    { name: 'usr/lib/a.so', body: Buffer.alloc(70_000, 'a'), pax: { mtime: '1600000000.123456789' } },
    { name: 'etc/', type: 'directory' },
    { name: 'etc/passwd', body: 'root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n' },
    { name: 'etc/removed', body: 'x' },
    { name: 'old/', type: 'directory' },
    { name: 'old/one', body: '1' },
    { name: 'old/two', body: '2' },
    { name: `${'deep/'.repeat(40)}file`, body: 'deep' },
    { name: 'dev/', type: 'directory' },
    ...(isRoot ? ([{ name: 'dev/null', type: 'char', major: 1, minor: 3, mode: 0o666 }] as const) : []),
    { name: 'pipe', type: 'fifo', uid: isRoot ? 1000 : 0 },
    { name: 'n\xc3\xa4me', body: 'utf-8 name' },
  ],
  [
    { name: 'etc/', type: 'directory', mode: 0o750 },
    { name: 'etc/.wh.removed', body: '' },
    { name: 'etc/added', body: 'new', uid: isRoot ? 1000 : 0, gid: isRoot ? 1000 : 0 },
    { name: 'old/', type: 'directory' },
    { name: 'old/.wh..wh..opq', body: '' },
    { name: 'old/three', body: '3' },
    { name: 'bin/', type: 'directory' },
    { name: 'bin/run', body: 'second', mode: 0o755 },
  ],
  [
    { name: 'usr/', type: 'directory', mode: 0o755 },
    { name: 'usr/lib/', type: 'directory' },
    { name: 'usr/lib/.wh.a.so', body: '' },
    { name: 'usr/lib/b.so', body: Buffer.alloc(3_000_000, 'b') },
  ],
]

const injected = ['container.cmd', 'container.env', 'dev', 'proc', 'sys', 'run', 'tmp']

for (const compression of ['gzip', 'zstd', 'none'] as const)
  test(`a pushed image becomes the tree that umoci unpacks, ${compression} layers`, async t => {
    if (!requireTools(t, 'docker-registry', 'skopeo', 'umoci')) return
    const image = makeImage(mixed.map(archive), { compression })
    const directory = layout(t, image)
    const registry = await startRegistry(t)
    await push(directory, 'latest', `${registry}/team/app:1.0`)

    const source = { kind: 'registry', registry, repository: 'team/app', tagsOrDigests: ['1.0'] } as const
    const { result, path, pulledBytes } = await build(t, source)
    assert.equal(result.metadata.imageDigest, image.manifestDigest)
    assert.equal(sha256(readFileSync(path)), `sha256:${result.checksum}`)
    assert.ok(pulledBytes > 0)

    // umoci 0.4 knows no zstd; the same layers as gzip are the same tree.
    const judged = compression === 'zstd' ? layout(t, makeImage(mixed.map(archive))) : directory
    const bundle = join(temporaryDirectory(t), 'bundle')
    const rootless = isRoot ? [] : ['--rootless']
    await run('umoci', ['unpack', ...rootless, '--image', `${judged}:latest`, bundle])
    const ours = temporaryDirectory(t)
    extract(path, ours)

    const expected = listFolder(join(bundle, 'rootfs'))
    const actual = listFolder(ours)
    for (const name of injected) {
      if (!expected.has(name)) assert.ok(actual.delete(name), name)
    }
    // umoci gives parents that nobody named the time of unpacking; ours take their entry's time, by contract.
    for (const lines of [expected, actual])
      for (const [name, line] of lines)
        if (/^(deep\/)*deep$/.test(name)) lines.set(name, line.replace(/\d+$/, 'implied'))
    assert.deepEqual(actual, expected)
  })

test('the same layers give the same bytes, whatever they were compressed with and wherever they came from', async t => {
  const first = await build(t, fromLayout(layout(t, makeImage(mixed.map(archive)))))
  const second = await build(t, fromLayout(layout(t, makeImage(mixed.map(archive), { compression: 'zstd' }))))
  assert.equal(first.result.checksum, second.result.checksum)
  assert.deepEqual(readFileSync(first.path), readFileSync(second.path))
})

test('mode bits, owners, nanoseconds, devices, fifos and extended attributes reach the image', async t => {
  const { path } = await build(
    t,
    fromLayout(
      layout(
        t,
        makeImage([
          archive([
            {
              name: 'f',
              mode: 0o6755,
              uid: 70_000,
              pax: { uid: '4294967294', gid: '3000000', mtime: '1.000000001', 'SCHILY.xattr.user.k': 'v' },
            },
            { name: 'b', type: 'block', major: 8, minor: 1 },
            { name: 'p', type: 'fifo' },
            { name: 'o', pax: { 'SCHILY.xattr.trusted.overlay.origin': 'x', 'SCHILY.xattr.trusted.mine': 'y' } },
          ]),
        ]),
      ),
    ),
  )
  const { stdout } = await run('tar', [
    '--numeric-owner',
    '--full-time',
    '--xattrs',
    '--xattrs-include=*',
    '-tvvf',
    path,
  ])
  assert.match(stdout, /-rwsr-sr-x\* 4294967294\/3000000 0 1970-01-01 00:00:01\.000000001 f\n {2}x: 1 user\.k/)
  assert.match(stdout, /brw-r--r-- +0\/0 +8,1 .* b\n/)
  assert.match(stdout, /prw-r--r-- .* p\n/)
  assert.match(stdout, /trusted\.mine/)
  assert.doesNotMatch(stdout, /overlay/)
  await assert.rejects(
    build(
      t,
      fromLayout(layout(t, makeImage([archive([{ name: 'f', pax: { 'SCHILY.xattr.user.k': 'x'.repeat(4_096) } }])]))),
    ),
    /at most 4096 are kept/,
  )
})

test('G7: nothing is extracted: a folder full of traps stays untouched; archives of every dialect and compression are only read', async t => {
  await readsEveryArchive(t)

  const victim = temporaryDirectory(t)
  writeFileSync(join(victim, 'precious'), 'untouched')
  const before = listFolder(victim)
  const outside = (name: string): Member => ({ name: 'x', body: 'stolen', pax: { path: name } })
  const attacks: Member[][] = [
    [outside(`../../../../../../../..${victim}/precious`)],
    [outside(`${victim}/precious`)],
    [{ name: 'l', type: 'symlink', link: victim }, outside('l/precious')],
    [{ name: 'l', type: 'symlink', link: `../../../../..${victim}` }, outside('l/precious')],
    [{ name: 'precious', type: 'hardlink', link: `${victim}/precious` }],
    [
      { name: 'l', type: 'symlink', link: victim },
      { name: 'm', type: 'hardlink', link: 'l/precious' },
    ],
    [{ name: '.wh...', body: '' }],
    [{ name: 'a/.wh...', body: '' }, outside('a')],
  ]
  let refused = 0
  for (const members of attacks) {
    try {
      await build(t, fromLayout(layout(t, makeImage([archive(members)]))))
    } catch (error) {
      assert.ok(error instanceof BuildError && error.code === 'INVALID_SOURCE', String(error))
      refused++
    }
    assert.deepEqual(listFolder(victim), before)
  }
  assert.equal(refused, 5, 'what stays inside the tree is built, what does not is refused')
})

/** GNU tar's dialects, sparse files and long names, under compressions that the media type does not tell. */
async function readsEveryArchive(t: TestContext) {
  const folder = temporaryDirectory(t)
  const long = 'long/'.repeat(30)
  mkdirSync(join(folder, long), { recursive: true })
  writeFileSync(join(folder, long, 'file'), 'hello')
  writeFileSync(join(folder, 'sparse'), 'end', { flag: 'a' })
  await run('truncate', ['-s', '5M', join(folder, 'sparse')])
  const forms = [
    ['--format=ustar'],
    ['--format=gnu', '--sparse'],
    ...['0.0', '0.1', '1.0'].map(v => ['--format=posix', '--sparse', `--sparse-version=${v}`]),
  ]
  let checksum: string | undefined
  for (const [i, form] of forms.entries()) {
    // ustar cannot say the long name, so its archive is made of the rest only and compared with itself.
    const names = form.includes('--format=ustar') ? ['sparse'] : ['sparse', 'long']
    const path = join(folder, `${i}.tar`)
    await run(
      'tar',
      [
        '-C',
        folder,
        ...form,
        '--sort=name',
        '--mtime=@1000',
        '--owner=4000000',
        '--group=4000000',
        '-cf',
        path,
        ...names,
      ].filter(a => !form.includes('--format=ustar') || !a.includes('4000000')),
    )
    const layer = readFileSync(path)
    const half = Math.floor(layer.length / 2)
    const packings = [
      layer,
      gzipSync(layer),
      Buffer.concat([gzipSync(layer.subarray(0, half)), gzipSync(layer.subarray(half))]),
      zstdCompressSync(layer),
    ]
    const sums = new Set<string>()
    for (const packed of packings) {
      const image = makeImage([layer], {
        tamper: layers => Object.assign(layers[0] ?? {}, { digest: sha256(packed), size: packed.length }),
      })
      image.blobs.set(sha256(packed), packed)
      sums.add((await build(t, fromLayout(layout(t, image)))).result.checksum)
    }
    assert.equal(sums.size, 1, `${form}: one tree, however it was packed`)
    const [sum = ''] = sums
    if (names.length === 2) checksum ??= sum
    if (names.length === 2) assert.equal(sum, checksum, `${form}: every dialect says the same`)
  }
}

test('bombs end at the tenant’s disk, damaged and lying images by name', async t => {
  const gibibyte = makeImage([Buffer.alloc(300 * 1024 * 1024)])
  const failures: [image: ReturnType<typeof makeImage>, more: Partial<Job>, code: string, message: RegExp][] = [
    [gibibyte, { diskBytesMax: 10_000_000 }, 'QUOTA_EXCEEDED', /unpacks to more than 10000000/],
    [
      makeImage([
        archive([
          {
            name: 's',
            body: `1\n0\n0\n${'\0'.repeat(506)}`,
            pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '70000000000000' },
          },
        ]),
      ]),
      { diskBytesMax: 10_000_000 },
      'QUOTA_EXCEEDED',
      /comes to 70000000/,
    ],
    [
      makeImage([archive([{ name: 'a' }])], {
        config: { rootfs: { type: 'layers', diff_ids: [sha256(Buffer.from('other'))] } },
      }),
      {},
      'INVALID_SOURCE',
      /Layer 1 of 1 .* unpacks to sha256:.*, but the config of the image says/,
    ],
    [
      makeImage([archive([{ name: 'a' }])], { config: { architecture: 's390x' } }),
      {},
      'INVALID_SOURCE',
      /built for linux\/s390x/,
    ],
    [makeImage([archive([{ name: 'a', body: 'b' }]).subarray(0, 700)]), {}, 'INVALID_SOURCE', /cut off/],
    [makeImage([Buffer.alloc(1024, 'not a tar')]), {}, 'INVALID_SOURCE', /has a checksum that is not/],
    [
      makeImage([archive([{ name: 'a' }])], { config: { config: { User: 'nobody-knows' } } }),
      {},
      'INVALID_SOURCE',
      /user "nobody-knows"/,
    ],
    [
      makeImage([archive([{ name: 'container.cmd/', type: 'directory' }])]),
      {},
      'INVALID_SOURCE',
      /has a directory of that name/,
    ],
  ]
  for (const [image, more, code, message] of failures) {
    const scratchDir = temporaryDirectory(t)
    await assert.rejects(build(t, fromLayout(layout(t, image)), { scratchDir, ...more }), (error: unknown) => {
      assert.ok(error instanceof BuildError, String(error))
      assert.deepEqual([error.code, message.test(error.message)], [code, true], error.message)
      return true
    })
  }
  const cut = makeImage([archive([{ name: 'a', body: Buffer.alloc(100_000) }])])
  const [digest = ''] = cut.layerDigests
  const half = cut.blobs.get(digest)?.subarray(0, 60) ?? Buffer.alloc(0)
  const damaged = makeImage([archive([{ name: 'a', body: Buffer.alloc(100_000) }])], {
    tamper: layers => Object.assign(layers[0] ?? {}, { digest: sha256(half), size: half.length }),
  })
  damaged.blobs.set(sha256(half), half)
  await assert.rejects(build(t, fromLayout(layout(t, damaged))), /does not decompress/)
})

test('what is asked to go goes, what is preserved stays', async t => {
  const image = makeImage([
    archive([
      { name: 'var/cache/apt/x', body: '1' },
      { name: 'usr/share/doc/a/copyright', body: '1' },
      { name: 'usr/share/doc/b/copyright', body: '1' },
      { name: 'usr/lib/x.debug', body: '1' },
      { name: 'usr/lib/x.so', body: '1' },
      { name: 'srv/a.log', body: '1' },
      { name: 'srv/deep/b.log', body: '1' },
      { name: 'srv/deep/keep.log', body: '1' },
    ]),
  ])
  const { path } = await build(t, fromLayout(layout(t, image)), {
    optimisation: {
      ...nothingAsked,
      removeCache: true,
      removeDocs: true,
      stripDebugSymbols: true,
      excludePatterns: ['/srv/**/*.log', '!/srv/deep/keep.log'],
      preservePaths: ['/usr/share/doc/b'],
    },
  })
  const ours = temporaryDirectory(t)
  extract(path, ours)
  const files = [...listFolder(ours)].filter(([, line]) => line.startsWith('file')).map(([name]) => name)
  assert.deepEqual(files, [
    'container.cmd',
    'container.env',
    'srv/deep/keep.log',
    'usr/lib/x.so',
    'usr/share/doc/b/copyright',
  ])
  assert.ok(listFolder(ours).has('var/cache'), 'the folder itself stays')
})

test('the guest finds command, environment and user; parents that are links resolve inside the image', async t => {
  const image = makeImage(
    [
      archive([
        { name: 'etc/passwd', body: 'app:x:1000:1001::/:/bin/sh\n' },
        { name: 'etc/group', body: 'app:x:1001:\ndisk:x:6:app,other\n' },
        { name: 'usr/bin', type: 'symlink', link: '/opt/bin' },
        { name: 'opt/bin/', type: 'directory' },
      ]),
    ],
    {
      config: {
        config: {
          Env: ['A=1', 'B=2'],
          Entrypoint: ['/entry'],
          Cmd: ['arg'],
          WorkingDir: '/srv',
          User: 'app',
          ExposedPorts: { '8080/tcp': {}, '53/udp': {} },
          StopSignal: 'SIGQUIT',
        },
      },
    },
  )
  const initBinary = join(temporaryDirectory(t), 'init')
  writeFileSync(initBinary, 'static program')
  const { path, result } = await build(t, fromLayout(layout(t, image)), {
    initBinary,
    runtime: { ...noOverrides, command: ['other'], environment: { B: '3' } },
  })
  assert.equal(result.hasInit, true)
  const ours = temporaryDirectory(t)
  mkdirSync(join(ours, 'x'))
  extract(path, join(ours, 'x'))
  const read = (name: string) => readFileSync(join(ours, 'x', name), 'utf8')
  assert.deepEqual(JSON.parse(read('container.cmd')), ['/entry', 'other'])
  assert.deepEqual(JSON.parse(read('container.env')), {
    working_dir: '/srv',
    env: { A: '1', B: '3', PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
    user: 'app',
    exposed_ports: ['53/udp', '8080'],
    init_strategy: 'tini',
    uid: 1000,
    gid: 1001,
    groups: [6],
    stop_signal: 'SIGQUIT',
  })
  assert.equal(read('opt/bin/metald-init'), 'static program')
})

test('G13: injection stays in the tree: links above resolve inside it, what stands there is replaced, a directory refuses', async t => {
  const victim = temporaryDirectory(t)
  const initBinary = join(victim, 'init')
  writeFileSync(initBinary, 'static program')
  const before = listFolder(victim)
  const image = makeImage([
    archive([
      { name: 'usr', type: 'symlink', link: `../../../..${victim}` },
      { name: 'container.cmd', type: 'symlink', link: `${victim}/init` },
      { name: 'container.env', body: 'old', mode: 0o777, uid: 7 },
      { name: 'sbin', type: 'symlink', link: '/other/sbin' },
    ]),
  ])
  const { path } = await build(t, fromLayout(layout(t, image)), { initBinary })
  const ours = temporaryDirectory(t)
  extract(path, ours)
  assert.deepEqual(listFolder(victim), before)
  const lines = listFolder(ours)
  const inside = victim.replace(/^\//, '')
  assert.match(lines.get(`${inside}/bin/metald-init`) ?? '', /^file 755 0:0 /)
  assert.match(lines.get('container.cmd') ?? '', /^file 644 0:0 /)
  assert.match(lines.get('container.env') ?? '', /^file 644 0:0 /)
  assert.equal(lines.get('other/sbin/init'), 'link 0:0 /usr/bin/metald-init')
  for (const name of ['container.cmd/', 'container.env/', 'usr/bin/metald-init/'])
    await assert.rejects(
      build(t, fromLayout(layout(t, makeImage([archive([{ name, type: 'directory' }])]))), { initBinary }),
      /has a directory of that name/,
      name,
    )
  await assert.rejects(
    build(t, fromLayout(layout(t, makeImage([archive([{ name: 'usr', body: 'a file' }])]))), { initBinary }),
    /is not a directory/,
  )
})

test('G18: metadata is of the platform’s own manifest, base first, in the contract’s words and figures', async t => {
  const layers = [archive([{ name: 'a', body: 'x'.repeat(2_000) }]), archive([{ name: 'a', body: 'y' }])]
  const ports = { '8080/tcp': {}, '53/udp': {}, '443/tcp': {}, '9000': {} }
  const image = makeImage(layers, {
    config: { config: { ExposedPorts: ports, Labels: { k: 'v' }, Volumes: { '/data': {} }, User: '5' } },
  })
  const architecture = hostPlatform(process.arch).architecture
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest: `sha256:${'0'.repeat(64)}`,
          size: 1,
          platform: { os: 'linux', architecture: 's390x' },
        },
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest: image.manifestDigest,
          size: image.manifest.length,
          platform: { os: 'linux', architecture },
        },
      ],
    }),
  )
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    if (!path.endsWith('/manifests/1.0')) return false
    response.writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json' }).end(index)
    return true
  })
  const source = {
    kind: 'registry',
    registry: registry.address,
    repository: 'team/app',
    tagsOrDigests: ['1.0'],
  } as const
  const { result } = await build(t, source, { originalImage: `${registry.address}/team/app:1.0` })
  assert.deepEqual(result.metadata, {
    originalImage: `${registry.address}/team/app:1.0`,
    imageDigest: image.manifestDigest,
    layers: image.layerDigests,
    labels: { k: 'v' },
    command: [],
    entrypoint: [],
    workingDir: '',
    env: {},
    exposedPorts: ['53/udp', '443', '8080', '9000'],
    user: '5',
    volumes: ['/data'],
  })
  assert.equal(
    result.metrics.originalBytes,
    layers.reduce((sum, layer) => sum + layer.length, 0),
  )
  assert.equal(result.metrics.rootfsBytes, readFileSync((await build(t, source)).path).length)
  for (const [original, rootfs, ratio] of [
    [1_000, 250, 75],
    [1_000, 333, 66],
    [1_000, 1_001, -1],
    [0, 500, 0],
  ] as const)
    assert.equal(compressionRatio(original, rootfs), ratio)
})

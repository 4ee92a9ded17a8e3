// builderd from outside: real clients, a real database, registries that are real or really rude.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError } from '@connectrpc/connect'
import { openTenancy } from '#platform/tenancy/tenancy'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { BuildState, QuotaViolationSchema } from '#proto/builder/v1/builder_pb'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { BuildList } from '../api.ts'
import { scrub, seal, unseal } from '../secrets.ts'
import { archive } from './archive.ts'
import { type Builderd, configFor, startBuilderd, untilOver, untilState } from './builderd.ts'
import { makeImage, type TestImage, writeLayout } from './image.ts'
import { workersOf } from './process.ts'
import { type Manner, startRudeRegistry } from './rude-registry.ts'
import { push, requireTools, startRegistry, temporaryDirectory } from './tools.ts'

const image = makeImage([
  archive([
    { name: 'bin/run', body: '#!/bin/sh\n', mode: 0o755 },
    { name: 'etc/old', body: 'old' },
  ]),
  archive([
    { name: 'etc/.wh.old', body: '' },
    { name: 'etc/new', body: 'new' },
  ]),
])

/** A service and a registry it may use, for tenants of any tier. */
async function startWith(t: TestContext, served: TestImage = image, manner?: Manner, env: Record<string, string> = {}) {
  const registry = await startRudeRegistry(t, served, manner)
  const builderd = await startBuilderd(t, { UNKEY_BUILDERD_DOCKER_INSECURE_REGISTRIES: registry.address, ...env })
  return { registry, builderd, uri: `${registry.address}/team/app:1.0` }
}

/** Holds every blob back until `release`; so a build stands still in the middle. */
function holding(): { manner: Manner; release: () => void } {
  let isHeld = true
  const waiting: (() => void)[] = []
  return {
    manner(request, response, path) {
      if (!isHeld || !path.includes('/blobs/') || path.endsWith(image.manifestDigest)) return false
      // Headers and the first byte go out, so that nothing looks broken, only slow.
      response.writeHead(200)
      response.write(image.blobs.get(path.slice(path.lastIndexOf('/') + 1))?.subarray(0, 1) ?? '')
      waiting.push(() => request.socket.destroy())
      return true
    },
    release() {
      isHeld = false
      for (const cut of waiting) cut()
    },
  }
}

const codeOf = async (work: Promise<unknown>): Promise<Code | 'ok'> => {
  try {
    await work
    return 'ok'
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error))
    return error.code
  }
}

const rejectsWith = (code: Code, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ConnectError, String(error))
  assert.deepEqual([Code[error.code], message.test(error.rawMessage)], [Code[code], true], error.rawMessage)
  return true
}

async function create(builderd: Builderd, tenant: string, uri: string, more?: Parameters<typeof configFor>[2]) {
  return builderd.as(tenant).createBuild({ config: configFor(tenant, uri, more) })
}

test('an image pushed by another tool becomes a published, verified artifact, and everything about it can be read', async t => {
  if (!requireTools(t, 'docker-registry', 'skopeo')) return
  const registry = await startRegistry(t)
  const layout = temporaryDirectory(t)
  writeLayout(layout, image, 'latest')
  await push(layout, 'latest', `${registry}/team/app:1.0`)
  const builderd = await startBuilderd(t, { UNKEY_BUILDERD_DOCKER_INSECURE_REGISTRIES: registry })
  const acme = builderd.as('acme')

  const created = await acme.createBuild({
    config: configFor('acme', `${registry}/team/app:1.0`, { labels: { mine: 'kept' } }),
  })
  assert.match(created.buildId, /^build_[0-9A-HJKMNP-TV-Z]{26}$/)
  assert.equal(created.state, BuildState.PENDING)
  const build = await untilOver(acme, created.buildId)
  assert.equal(build.errorMessage, '')
  assert.equal(build.state, BuildState.COMPLETED)
  assert.equal(build.progressPercent, 100)
  assert.equal(build.rootfsPath, created.rootfsPath)
  assert.equal(build.imageMetadata?.imageDigest, image.manifestDigest)
  assert.deepEqual(build.imageMetadata?.layers, image.layerDigests)
  assert.equal(build.imageMetadata?.originalImage, `${registry}/team/app:1.0`)
  assert.equal(build.config?.labels.mine, 'kept')

  const bytes = readFileSync(build.rootfsPath)
  assert.equal(createHash('sha256').update(bytes).digest('hex'), build.rootfsChecksum)
  assert.equal(BigInt(bytes.length), build.rootfsSizeBytes)
  const folder = dirname(build.rootfsPath)
  assert.deepEqual(readdirSync(folder).sort(), ['checksums.sha256', 'filesystem.tar', 'manifest.json', 'metadata.json'])
  assert.equal(readFileSync(join(folder, 'checksums.sha256'), 'utf8'), `${build.rootfsChecksum}  filesystem.tar\n`)
  assert.equal(JSON.parse(readFileSync(join(folder, 'metadata.json'), 'utf8')).image_digest, image.manifestDigest)

  const list = await acme.listBuilds({})
  assert.deepEqual([list.totalCount, list.builds[0]?.buildId, list.builds[0]?.buildLogs], [1, created.buildId, []])
  const quotas = await acme.getTenantQuotas({})
  assert.equal(quotas.currentUsage?.storageBytesUsed, build.rootfsSizeBytes)
  assert.deepEqual([quotas.currentUsage?.dailyBuildsUsed, quotas.currentUsage?.activeBuilds], [1, 0])
  const stats = await acme.getBuildStats({})
  assert.deepEqual([stats.totalBuilds, stats.successfulBuilds, stats.recentBuilds.length], [1, 1, 1])
  await noLeftovers(builderd)

  assert.equal((await acme.deleteBuild({ buildId: created.buildId })).success, true)
  assert.equal(existsSync(folder), false)
  assert.equal((await acme.getTenantQuotas({})).currentUsage?.storageBytesUsed, 0n)
  assert.equal(await codeOf(acme.getBuild({ buildId: created.buildId })), Code.NotFound)
  assert.equal(await codeOf(acme.deleteBuild({ buildId: created.buildId })), Code.NotFound)
})

/** A JSON answer whose shape the test knows; wrong guesses fail the assertion that follows. */
async function jsonOf<T>(answer: Response): Promise<T> {
  return JSON.parse(await answer.text())
}

/** What a finished service may not leave behind: scratch files and stagings. */
async function leftovers({ dataDir }: Builderd): Promise<string[]> {
  const scratch = readdirSync(join(dataDir, 'builderd', 'scratch'))
  const inScratch = scratch.flatMap(life => readdirSync(join(dataDir, 'builderd', 'scratch', life)))
  return [...inScratch, ...readdirSync(join(dataDir, 'builderd', 'rootfs')).filter(name => name.startsWith('.'))]
}

/** A build is over for those who ask as soon as that is committed; its folder goes right after. */
async function noLeftovers(builderd: Builderd): Promise<void> {
  await pollUntil(async () => (await leftovers(builderd)).length === 0, { what: 'what builds left behind to go' })
}

test('CreateBuild names the first thing that is missing, in the order of the contract', async t => {
  const builderd = await startBuilderd(t)
  const acme = builderd.as('acme')
  const whole = configFor('acme', 'alpine')
  const docker = (imageUri: string) => ({ sourceType: { case: 'dockerImage' as const, value: { imageUri } } })
  const cases: [config: Parameters<typeof acme.createBuild>[0]['config'] | undefined, message: string][] = [
    [undefined, 'build config is required'],
    [{}, 'tenant context is required'],
    [{ tenant: {} }, 'tenant ID is required'],
    [{ tenant: { tenantId: 'acme' } }, 'build source is required'],
    [{ tenant: { tenantId: 'acme' }, source: docker('') }, 'build target is required'],
    [{ tenant: { tenantId: 'acme' }, source: docker(''), target: {} }, 'build strategy is required'],
    [{ ...whole, source: docker('') }, 'docker image URI is required'],
    [{ ...whole, source: { sourceType: { case: 'gitRepository', value: {} } } }, 'git repository URL is required'],
    [{ ...whole, source: { sourceType: { case: 'archive', value: {} } } }, 'archive URL is required'],
    [{ ...whole, source: {} }, 'unsupported source type'],
  ]
  for (const [config, message] of cases)
    await assert.rejects(
      acme.createBuild(config ? { config } : {}),
      rejectsWith(Code.InvalidArgument, new RegExp(`^${message}$`)),
    )

  const more: [config: NonNullable<(typeof cases)[number][0]>, code: Code, message: RegExp][] = [
    [{ ...whole, source: docker('--help') }, Code.InvalidArgument, /must not start with "-"/],
    [{ ...whole, labels: { 'purser.formt': 'tar' } }, Code.InvalidArgument, /did you mean purser\.format/],
    [{ ...whole, labels: { 'purser.format': 'ext4' } }, Code.Unimplemented, /not there yet; use tar/],
    [
      { ...whole, strategy: { strategyType: { case: 'goApi', value: {} } } },
      Code.InvalidArgument,
      /go_api needs a git or archive source/,
    ],
    [
      { ...whole, source: { sourceType: { case: 'gitRepository', value: { repositoryUrl: 'https://x' } } } },
      Code.Unimplemented,
      /git repository is not there yet/,
    ],
    [
      { ...whole, target: { targetType: { case: 'containerImage', value: {} } } },
      Code.Unimplemented,
      /container_image/,
    ],
    [{ ...whole, tenant: { tenantId: 'other' } }, Code.PermissionDenied, /differs from X-Tenant-ID/],
    [{ ...whole, source: docker('oci:images/app') }, Code.InvalidArgument, /needs LOCAL_SOURCES_DIR/],
  ]
  for (const [config, code, message] of more)
    await assert.rejects(acme.createBuild({ config }), rejectsWith(code, message))
  assert.equal((await acme.listBuilds({})).totalCount, 0, 'nothing was stored')
  await assert.rejects(builderd.as('').listBuilds({}), rejectsWith(Code.Unauthenticated, /^tenant ID is required$/))
})

test('another tenant’s build, a deleted one and nonsense are the same "not found" for every call', async t => {
  const { builderd, uri } = await startWith(t)
  const { buildId } = await create(builderd, 'acme', uri)
  await untilOver(builderd.as('acme'), buildId)
  const eve = builderd.as('eve')
  for (const id of [buildId, 'build_01JB5Q8W3M9ZK4T7XNE2R6VHCD', "'; drop table builds; --", '']) {
    const notFound = rejectsWith(Code.NotFound, new RegExp(`^build not found: ${id.replace(/[^\w ]/g, '.')}$`))
    await assert.rejects(eve.getBuild({ buildId: id }), notFound)
    await assert.rejects(eve.cancelBuild({ buildId: id }), notFound)
    await assert.rejects(eve.deleteBuild({ buildId: id, force: true }), notFound)
    await assert.rejects(Array.fromAsync(eve.streamBuildLogs({ buildId: id })), notFound)
  }
  assert.equal((await eve.listBuilds({})).totalCount, 0)
  await assert.rejects(eve.getBuild({ buildId, tenantId: 'acme' }), rejectsWith(Code.PermissionDenied, /differs/))
  const answer = await fetch(`${builderd.url}/builder.v1.BuilderService/GetBuildLogs/${buildId}`, {
    headers: { 'x-tenant-id': 'eve' },
  })
  assert.deepEqual([answer.status, (await jsonOf<{ error: { code: string } }>(answer)).error.code], [404, 'not_found'])
  assert.equal((await builderd.as('acme').getBuild({ buildId })).build?.state, BuildState.COMPLETED)
})

test('a wrong digest fails the build by name and publishes nothing', async t => {
  const [digest = ''] = image.layerDigests
  const { builderd, uri } = await startWith(t, image, (_, response, path) => {
    if (!path.endsWith(digest)) return false
    response.writeHead(200).end(Buffer.alloc(image.blobs.get(digest)?.length ?? 0))
    return true
  })
  const { buildId, rootfsPath } = await create(builderd, 'acme', uri)
  const build = await untilOver(builderd.as('acme'), buildId)
  assert.equal(build.state, BuildState.FAILED)
  assert.match(build.errorMessage, new RegExp(`^INVALID_SOURCE: .*${digest}`))
  assert.equal(existsSync(dirname(rootfsPath)), false)
  await noLeftovers(builderd)
})

test('daily builds are counted when they are accepted, refused with the contract’s words, and given back by a cancel in the queue', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner, { UNKEY_BUILDERD_TENANT_DEFAULT_MAX_DAILY_BUILDS: '3' })
  const acme = builderd.as('acme')
  const first = await create(builderd, 'acme', uri)
  await untilState(acme, first.buildId, BuildState.PULLING)
  const second = await create(builderd, 'acme', uri)
  await create(builderd, 'acme', uri)
  await assert.rejects(create(builderd, 'acme', uri), (error: unknown) => {
    assert.ok(error instanceof ConnectError)
    assert.equal(error.code, Code.ResourceExhausted)
    assert.match(error.rawMessage, /^daily_builds quota exceeded: 3\/3, resets \d{4}-\d\d-\d\dT00:00:00Z$/)
    const [violation] = error.findDetails(QuotaViolationSchema)
    assert.deepEqual([violation?.quotaType, violation?.currentValue, violation?.limitValue], ['daily_builds', 3n, 3n])
    return true
  })
  assert.ok(
    builderd.lines.some(line => line.includes('quota exceeded: daily_builds')),
    'the guide greps for it',
  )
  assert.deepEqual((await acme.cancelBuild({ buildId: second.buildId })).state, BuildState.CANCELLED)
  await create(builderd, 'acme', uri)
  await assert.rejects(create(builderd, 'acme', uri), rejectsWith(Code.ResourceExhausted, /3\/3/))
  assert.equal((await create(builderd, 'other', uri)).state, BuildState.PENDING, 'another tenant has its own')
  release()
})

test('a tenant never runs more than its tier allows, waits in order, and counters come back to zero', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner, {
    UNKEY_BUILDERD_TENANT_DEFAULT_MAX_CONCURRENT_BUILDS: '2',
  })
  const acme = builderd.as('acme')
  const ids = []
  for (let i = 0; i < 4; i++) ids.push((await create(builderd, 'acme', uri)).buildId)
  await pollUntil(async () => (await acme.getTenantQuotas({})).currentUsage?.activeBuilds === 2, {
    what: 'two running',
  })
  const other = await create(builderd, 'other', uri)
  await untilState(builderd.as('other'), other.buildId, BuildState.PULLING)
  const { currentUsage, violations } = await acme.getTenantQuotas({})
  assert.deepEqual([currentUsage?.activeBuilds, currentUsage?.buildsQueued], [2, 2])
  assert.deepEqual(
    violations.map(v => v.quotaType),
    ['concurrent_builds'],
  )
  release()
  for (const buildId of ids) {
    const build = await untilOver(acme, buildId)
    assert.equal(build.state, BuildState.COMPLETED, build.errorMessage)
  }
  const after = (await acme.getTenantQuotas({})).currentUsage
  assert.deepEqual([after?.activeBuilds, after?.buildsQueued, after?.buildsCompletedToday], [0, 0, 4])
  // Four builds of one image are one artifact.
  assert.equal(after?.storageBytesUsed, (await acme.getBuild({ buildId: ids[0] ?? '' })).build?.rootfsSizeBytes)
})

test('a build that would not fit into the tenant’s storage fails before it writes, a full tenant is refused at once', async t => {
  const { builderd, uri } = await startWith(t, image, undefined, {
    UNKEY_BUILDERD_TENANT_DEFAULT_MAX_STORAGE_BYTES: '4000',
  })
  const { buildId } = await create(builderd, 'acme', uri)
  const build = await untilOver(builderd.as('acme'), buildId)
  assert.match(build.errorMessage, /^QUOTA_EXCEEDED: storage quota exceeded: 0\/4000\.$/)
  await builderd.sql`update builderd.tenant_usage set stored_bytes = 4000 where tenant_id = 'acme'`
  await assert.rejects(
    create(builderd, 'acme', uri),
    rejectsWith(Code.ResourceExhausted, /^storage quota exceeded: 4000\/4000$/),
  )
})

test('G19: acknowledged means committed: row, quota and queue entry are there with the answer, and a repeated key is the same build for a day', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner, { UNKEY_BUILDERD_MAX_CONCURRENT_BUILDS: '1' })
  const [blocker] = [await create(builderd, 'blocker', uri)]
  await untilState(builderd.as('blocker'), blocker.buildId, BuildState.PULLING)

  const acme = builderd.as('acme', { 'idempotency-key': 'k1' })
  const first = await acme.createBuild({ config: configFor('acme', uri) })
  // Another connection sees all of it at once.
  const [row] = await builderd.sql<{ state: string; queued: number; accepted: number }[]>`
    select b.state, u.queued, d.accepted from builderd.builds b
    join builderd.tenant_usage u using (tenant_id) join builderd.tenant_days d using (tenant_id) where b.build_id = ${first.buildId}`
  assert.deepEqual(row, { state: 'PENDING', queued: 1, accepted: 1 })
  assert.deepEqual(
    [first.state, first.rootfsPath],
    [BuildState.PENDING, join(builderd.dataDir, 'builderd', 'rootfs', first.buildId, 'filesystem.tar')],
  )
  assert.match(first.buildId, /^build_[0-9A-HJKMNP-TV-Z]{26}$/)

  const again = await Promise.all([1, 2, 3].map(() => acme.createBuild({ config: configFor('acme', uri) })))
  assert.deepEqual(new Set(again.map(b => b.buildId)), new Set([first.buildId]))
  await assert.rejects(
    acme.createBuild({ config: configFor('acme', `${uri}x`) }),
    rejectsWith(Code.AlreadyExists, /used for another request/),
  )
  const others = await builderd.as('eve', { 'idempotency-key': 'k1' }).createBuild({ config: configFor('eve', uri) })
  assert.notEqual(others.buildId, first.buildId, 'keys are a tenant’s own')
  assert.equal((await acme.getTenantQuotas({})).currentUsage?.dailyBuildsUsed, 1)
  const tooLong = builderd.as('acme', { 'idempotency-key': 'k'.repeat(129) })
  await assert.rejects(
    tooLong.createBuild({ config: configFor('acme', uri) }),
    rejectsWith(Code.InvalidArgument, /Idempotency-Key/),
  )

  await builderd.sql`update builderd.builds set created_at = created_at - interval '24 hours 1 second' where build_id = ${first.buildId}`
  assert.notEqual(
    (await acme.createBuild({ config: configFor('acme', uri) })).buildId,
    first.buildId,
    'a day later it is forgotten',
  )
  release()
})

test('a cancel in the middle ends the build, its process and its files, once', async t => {
  const { manner } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri)
  await untilState(acme, buildId, BuildState.PULLING)
  const answers = await Promise.all([acme.cancelBuild({ buildId }), acme.cancelBuild({ buildId })])
  assert.deepEqual(
    answers.map(a => a.success),
    [true, true],
  )
  assert.equal((await untilOver(acme, buildId)).state, BuildState.CANCELLED)
  assert.equal((await acme.cancelBuild({ buildId })).success, true)
  assert.equal((await acme.getTenantQuotas({})).currentUsage?.activeBuilds, 0)
  await pollUntil(async () => (await leftovers(builderd)).length === 0, { what: 'an empty scratch folder' })
  assert.equal((await acme.deleteBuild({ buildId })).success, true)
})

test('a running build is deleted only with force; who follows its log is told', async t => {
  const { manner } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri)
  await untilState(acme, buildId, BuildState.PULLING)
  const following = Array.fromAsync(acme.streamBuildLogs({ buildId, follow: true }))
  await assert.rejects(acme.deleteBuild({ buildId }), rejectsWith(Code.FailedPrecondition, /is running/))
  assert.equal((await acme.deleteBuild({ buildId, force: true })).success, true)
  const last = (await following).at(-1)
  assert.ok(last?.message === 'build deleted' || last?.message === 'CANCELLED', last?.message ?? 'no line')
  assert.equal(await codeOf(acme.getBuild({ buildId })), Code.NotFound)
})

test('a build that runs too long ends as BUILD_TIMEOUT; a request may only shorten its time', async t => {
  const { manner } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await acme.createBuild({
    config: { ...configFor('acme', uri), limits: { timeoutSeconds: 1, maxConcurrentBuilds: 99 } },
  })
  const build = await untilOver(acme, buildId)
  assert.match(build.errorMessage, /^BUILD_TIMEOUT: .*at most 1 s/)
  assert.ok(
    builderd.lines.some(line => line.includes('timeout: ')),
    'the guide greps for it',
  )
  await noLeftovers(builderd)
})

test('logs: gap-free, followed to the end, continued from any cursor, the same over RPC and HTTP', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri)
  await untilState(acme, buildId, BuildState.PULLING)
  const following = Array.fromAsync(acme.streamBuildLogs({ buildId, follow: true }))
  release()
  const lines = await following
  assert.deepEqual(
    lines.map(line => line.metadata.cursor),
    lines.map((_, i) => String(i + 1)),
  )
  assert.match(lines.at(-1)?.message ?? '', /^COMPLETED: /)
  assert.deepEqual([...new Set(lines.map(line => line.component))].sort(), [
    'builder',
    'extractor',
    'optimizer',
    'publisher',
    'puller',
    'scheduler',
  ])

  const rest = builderd.as('acme', { 'x-log-after': '3' })
  assert.deepEqual(
    (await Array.fromAsync(rest.streamBuildLogs({ buildId }))).map(l => l.metadata.cursor),
    lines.slice(3).map(l => l.metadata.cursor),
  )
  const url = `${builderd.url}/deploy.builderd.v1.BuilderService/GetBuildLogs/${buildId}`
  const get = (query: string, accept: string) => fetch(url + query, { headers: { 'x-tenant-id': 'acme', accept } })
  const text = await (await get('', '*/*')).text()
  assert.equal(text.split('\n').length - 1, lines.length)
  assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO scheduler queued /)
  const ndjson = (await (await get('?after=3', 'application/x-ndjson')).text()).trim().split('\n')
  assert.deepEqual(
    ndjson.map(line => JSON.parse(line).message),
    lines.slice(3).map(l => l.message),
  )
  const sse = await (await get('?follow=true&after=3', 'text/event-stream')).text()
  assert.equal([...sse.matchAll(/^id: (\d+)$/gm)].length, lines.length - 3)
  const json = await jsonOf<{ logs: unknown[] }>(await get('', 'application/json'))
  assert.equal(json.logs.length, lines.length)
})

test('G28: lists page through everything, newest first, bound to tenant and filter; stats count what the window holds', async t => {
  const builderd = await startBuilderd(t)
  const acme = builderd.as('acme')
  await acme.getTenantQuotas({})
  const { sql } = builderd
  await sql`insert into builderd.tenants (tenant_id, tier) values ('acme', 'free')`
  await sql`insert into builderd.tenant_usage (tenant_id, stored_bytes) values ('acme', 7)`
  // 1,060 builds, one a minute, backwards from a fixed time; every third failed, run for n ms.
  const end = Date.UTC(2026, 0, 15, 12)
  await sql`
    insert into builderd.builds (build_id, tenant_id, customer_id, tier, name, config, labels, source_kind, image_ref, state, limits, builds_max, created_at, rootfs_path, running_ms)
    select 'build_01JB5Q8W3M9ZK4T7XNE2R' || to_char(n, 'FM00000'), 'acme', '', 'free', '', '', '{}', 'docker_image', 'x', case when n % 3 = 0 then 'FAILED' else 'COMPLETED' end,
           '{}', 1, ${new Date(end)}::timestamptz - n * interval '1 minute', '/x', n
    from generate_series(1, 1060) n`
  const first = await acme.listBuilds({})
  assert.deepEqual([first.builds.length, first.totalCount], [50, 1_060])
  assert.equal((await acme.listBuilds({ pageSize: 5_000 })).builds.length, 1_000)
  const failed = [BuildState.FAILED]
  assert.equal((await acme.listBuilds({ stateFilter: failed })).totalCount, 353)

  const seen: string[] = []
  for (let pageToken = ''; ; ) {
    const page = await acme.listBuilds({ pageSize: 400, pageToken })
    seen.push(...page.builds.map(b => b.buildId))
    pageToken = page.nextPageToken
    if (pageToken === '') break
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 1_060 }, (_, i) => `build_01JB5Q8W3M9ZK4T7XNE2R${String(i + 1).padStart(5, '0')}`),
  )
  for (const attempt of [
    builderd.as('eve').listBuilds({ pageToken: first.nextPageToken }),
    acme.listBuilds({ pageToken: first.nextPageToken, stateFilter: failed }),
    acme.listBuilds({ pageToken: 'nonsense' }),
  ])
    await assert.rejects(attempt, rejectsWith(Code.InvalidArgument, /page_token/))

  // [end - 10 min, end - 1 min): builds 2…10; 3, 6 and 9 failed.
  const window = { startTime: timestampFromMs(end - 10 * 60_000), endTime: timestampFromMs(end - 60_000) }
  const stats = await acme.getBuildStats(window)
  assert.deepEqual([stats.totalBuilds, stats.successfulBuilds, stats.failedBuilds], [9, 6, 3])
  assert.equal(stats.avgBuildTimeMs, 6n, '(2+4+5+7+8+10)/6')
  assert.deepEqual([stats.totalStorageBytes, stats.totalComputeMinutes], [7n, 0n])
  assert.deepEqual(
    stats.recentBuilds.map(b => b.buildId),
    seen.slice(0, 10),
  )
  await sql`update builderd.builds set running_ms = 5 where build_id = ${seen[1] ?? ''}`
  assert.equal((await acme.getBuildStats(window)).avgBuildTimeMs, 7n, '39/6 = 6.5 is rounded up')
  await sql`update builderd.builds set running_ms = 119999 where build_id = ${seen[1] ?? ''}`
  assert.equal((await acme.getBuildStats(window)).totalComputeMinutes, 2n, '119,999 + 52 ms')
  await sql`update builderd.builds set created_at = now() - interval '23 hours' where build_id = ${seen[0] ?? ''}`
  await sql`update builderd.builds set created_at = now() - interval '25 hours' where build_id = ${seen[1] ?? ''}`
  assert.equal((await acme.getBuildStats({})).totalBuilds, 1, 'the last 24 hours unless said otherwise')
})

test('cached bytes of a private repository are not given to whoever merely names their digest', async t => {
  const secretLayer = archive([{ name: 'secret', body: 'only for those with a password' }])
  const privateImage = makeImage([secretLayer])
  const basic = `Basic ${Buffer.from('user:right').toString('base64')}`
  const privateRegistry = await startRudeRegistry(t, privateImage, (request, response) => {
    if (request.headers.authorization === basic) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="private"' }).end()
    return true
  })
  // It names the layer it was told about, and does not have it.
  const lying = await startRudeRegistry(t, privateImage, (_, response, path) => {
    if (!path.endsWith(privateImage.layerDigests[0] ?? '')) return false
    response.writeHead(404).end()
    return true
  })
  const builderd = await startBuilderd(t, {
    UNKEY_BUILDERD_DOCKER_INSECURE_REGISTRIES: `${privateRegistry.address},${lying.address}`,
  })
  const auth = { username: 'user', password: 'right' }
  const owner = await create(builderd, 'owner', `${privateRegistry.address}/team/app`, { auth })
  assert.equal((await untilOver(builderd.as('owner'), owner.buildId)).state, BuildState.COMPLETED)

  const eve = await create(builderd, 'eve', `${lying.address}/team/app`)
  const stolen = await untilOver(builderd.as('eve'), eve.buildId)
  assert.match(stolen.errorMessage, /^INVALID_SOURCE: .*has no blob/)
  const guess = await create(builderd, 'eve2', `${privateRegistry.address}/team/app`, {
    auth: { username: 'user', password: 'wrong' },
  })
  assert.match((await untilOver(builderd.as('eve2'), guess.buildId)).errorMessage, /^AUTHENTICATION_FAILED: /)

  const before = privateRegistry.requests.length
  const again = await create(builderd, 'owner2', `${privateRegistry.address}/team/app`, { auth })
  const reused = await untilOver(builderd.as('owner2'), again.buildId)
  assert.equal(reused.state, BuildState.COMPLETED)
  const blobs = privateRegistry.requests.slice(before).filter(r => r.path.endsWith(privateImage.layerDigests[0] ?? ''))
  assert.deepEqual(blobs, [], 'whoever may see the manifest there uses the cached bytes')
})

test('G32: a password is sealed while it is needed and found nowhere: rows, logs, answers, metrics, arguments, environments', async t => {
  const canary = 'canary-7f3a-password'
  const basic = `Basic ${Buffer.from(`user:${canary}`).toString('base64')}`
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, (request, response, path) => {
    if (request.headers.authorization === basic) return manner(request, response, path)
    response.writeHead(401, { 'www-authenticate': 'Basic realm="private"' }).end()
    return true
  })
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri, { auth: { username: 'user', password: canary } })
  await untilState(acme, buildId, BuildState.PULLING)
  const [waiting] = await builderd.sql<{ sealed: Buffer }[]>`select sealed from builderd.build_secrets`
  assert.ok(waiting && !waiting.sealed.includes(canary), 'sealed while it is needed')
  const process = readdirSync('/proc').filter(pid => /^\d+$/.test(pid))
  for (const pid of process) {
    const read = (file: string) => readSafely(`/proc/${pid}/${file}`)
    assert.ok(!read('cmdline').includes(canary) && !read('environ').includes(canary), `process ${pid} shows it`)
  }
  release()
  const build = await untilOver(acme, buildId)
  assert.equal(build.state, BuildState.COMPLETED)
  const source = build.config?.source?.sourceType
  assert.deepEqual(source?.case === 'dockerImage' && [source.value.auth?.username, source.value.auth?.password], [
    'user',
    '',
  ])
  assert.equal((await builderd.sql`select from builderd.build_secrets`).length, 0, 'gone with the end')
  const dump = await builderd.sql<{ row: string }[]>`
    select b::text as row from builderd.builds b union all select l::text from builderd.build_logs l`
  const pages = await Promise.all(
    ['/metrics', '/health', '/health/detailed'].map(async path => (await fetch(builderd.url + path)).text()),
  )
  assert.ok(
    !JSON.stringify([dump, build, builderd.lines, pages], (_, v) => (typeof v === 'bigint' ? String(v) : v)).includes(
      canary,
    ),
  )
  assert.ok(!dump.some(({ row }) => row.includes(Buffer.from(canary).toString('hex'))))
})

function readSafely(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

test('G32: known values and user info in addresses are scrubbed from log lines, and a seal opens for its own build only', () => {
  const secrets = { username: 'user', password: 'pass-word', token: 'tok-en' }
  assert.equal(
    scrub('GET https://user:pass-word@host/x with pass-word and tok-en', secrets),
    'GET https://***@host/x with *** and ***',
  )
  const key = Buffer.alloc(32, 1)
  const sealed = seal(key, 'build_1', secrets)
  assert.deepEqual(unseal(key, 'build_1', sealed), secrets)
  assert.throws(() => unseal(key, 'build_2', sealed))
  assert.throws(() => unseal(Buffer.alloc(32, 2), 'build_1', sealed))
})

test('usage is told once per build, in the transaction that ends it', async t => {
  const { builderd, uri } = await startWith(t, image, undefined, { PURSER_BILLAGED_URL: 'http://127.0.0.1:9' })
  const { buildId } = await create(builderd, 'acme', uri)
  await untilOver(builderd.as('acme'), buildId)
  const rows = await builderd.sql<{ event: string }[]>`select to_jsonb(o)::text as event from builderd.usage_outbox o`
  const text = rows.map(row => row.event).join('\n')
  assert.equal(rows.length, 2, text)
  assert.match(text, /builderd\.build_time/)
  assert.match(text, new RegExp(`${buildId}/pull`))
  assert.match(text, /running_ms/)
})

test('a builderd that was told to stop queues its builds again, and the next one finishes them', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const { buildId } = await create(builderd, 'acme', uri)
  await untilState(builderd.as('acme'), buildId, BuildState.PULLING)
  await builderd.close()
  const [row] = await builderd.sql<{ state: string; lost: number }[]>`select state, lost from builderd.builds`
  assert.deepEqual(row, { state: 'PENDING', lost: 0 })
  release()
  await builderd.restart()
  assert.equal((await untilOver(builderd.as('acme'), buildId)).state, BuildState.COMPLETED)
})

test('a build whose process is killed is tried again, and given up after the third time', async t => {
  const { manner } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri)
  const killed = new Set<number>()
  const build = await pollUntil(
    async () => {
      for (const pid of workersOf(process.pid)) {
        if (killed.has(pid)) continue
        killed.add(pid)
        process.kill(pid, 'SIGKILL')
      }
      const { build: now } = await acme.getBuild({ buildId })
      return now?.state === BuildState.FAILED ? now : undefined
    },
    { what: 'the third death', everyMs: 20 },
  )
  assert.match(build.errorMessage, /^WORKER_LOST: .*died 3 times/)
  assert.equal(killed.size, 3)
  assert.equal((await acme.getTenantQuotas({})).currentUsage?.activeBuilds, 0)
})

test('a lease that ran out is given to someone else; its old owner can publish nothing', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri)
  await untilState(acme, buildId, BuildState.PULLING)
  // Another daemon takes over, as it would after 30 s of silence.
  const other = '00000000-0000-0000-0000-000000000001'
  await builderd.sql`
    update builderd.builds set lease_owner = ${other}, lease_epoch = lease_epoch + 1, lease_until = now() + interval '1 hour'`
  release()
  await pollUntil(async () => (await leftovers(builderd)).length === 0 && workersOf(process.pid).length === 0, {
    what: 'the old owner to stop',
  })
  const [row] = await builderd.sql<{ state: string; leaseOwner: string; bytes: bigint | null }[]>`
    select state, lease_owner as "leaseOwner", rootfs_bytes as bytes from builderd.builds`
  assert.deepEqual(row, { state: 'PULLING', leaseOwner: other, bytes: null })
})

test('with credentials the door is shut: a key speaks for its tenant and its scopes only', async t => {
  const { builderd, uri } = await startWith(t, image, undefined, {
    UNKEY_BUILDERD_AUTH_TOKENS: 'acme:token-of-acme-0123456789',
  })
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
  assert.equal((await jsonOf<{ auth: string }>(await fetch(`${builderd.url}/health`))).auth, 'required')
  assert.equal(await codeOf(builderd.as('acme').listBuilds({})), Code.Unauthenticated)
  assert.equal(await codeOf(builderd.as('acme', bearer('dev_user_x')).listBuilds({})), Code.Unauthenticated)
  const acme = builderd.as('acme', bearer('token-of-acme-0123456789'))
  const { buildId } = await acme.createBuild({ config: configFor('acme', uri) })
  await untilOver(acme, buildId)
  assert.equal(
    await codeOf(builderd.as('eve', bearer('token-of-acme-0123456789')).listBuilds({})),
    Code.PermissionDenied,
  )
  const logs = `${builderd.url}/builder.v1.BuilderService/GetBuildLogs/${buildId}`
  assert.equal((await fetch(logs, { headers: { 'x-tenant-id': 'acme' } })).status, 401)
  assert.equal((await fetch(`${builderd.url}/v1/builds`, { headers: bearer('token-of-acme-0123456789') })).status, 401)
})

test('the first key with a builds scope shuts the door, and opens it for its own tenant', async t => {
  const { builderd } = await startWith(t)
  assert.equal(await codeOf(builderd.as('acme').listBuilds({})), 'ok')
  const secret = Buffer.from('a secret of tests that is long enough')
  const tenancy = await openTenancy({ sql: builderd.sql, secret, log: testBase(t).log, clock: systemClock })
  t.after(() => tenancy.close())
  const by = { kind: 'command', name: 'test' } as const
  const tenant = await tenancy.tenants.ensure('acme', by)
  const keyOf = (scopes: string[]) =>
    tenancy.keys.create({ tenantId: tenant.id, name: 'ci', scopes, format: 'hex64' }, by)
  const { key } = await keyOf(['builds:read'])
  await pollUntil(async () => (await codeOf(builderd.as('acme').listBuilds({}))) === Code.Unauthenticated, {
    what: 'the door to shut',
  })
  const bearer = { authorization: `Bearer ${key}` }
  // That there is a key may be known a moment before the key is: the door shuts first.
  await pollUntil(async () => (await codeOf(builderd.as('acme', bearer).listBuilds({}))) === 'ok', {
    what: 'the key to be known',
  })
  assert.equal(await codeOf(builderd.as('eve', bearer).listBuilds({})), Code.PermissionDenied)
  assert.equal(
    await codeOf(builderd.as('acme', bearer).createBuild({ config: configFor('acme', 'alpine') })),
    Code.PermissionDenied,
  )
  const { key: logsKey } = await keyOf(['logs:write'])
  await pollUntil(
    async () =>
      (await codeOf(builderd.as('acme', { authorization: `Bearer ${logsKey}` }).listBuilds({}))) ===
      Code.PermissionDenied,
    { what: 'the other key to be known' },
  )
})

test('a build outlives connections that are cut under it', async t => {
  const { manner, release } = holding()
  const { builderd, uri } = await startWith(t, image, manner)
  const acme = builderd.as('acme')
  const { buildId } = await create(builderd, 'acme', uri)
  await untilState(acme, buildId, BuildState.PULLING)
  const lines: string[] = []
  const following = (async () => {
    for await (const line of acme.streamBuildLogs({ buildId, follow: true })) lines.push(line.message)
  })()
  await pollUntil(() => lines.length > 0, { what: 'the first line' })
  const cut = () => builderd.sql`
    select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'builderd' and datname = current_database()`
  await cut()
  release()
  for (let i = 0; i < 5; i++) await cut()
  const build = await pollUntil(() => untilOver(acme, buildId), { what: 'the end' })
  assert.equal(build.errorMessage, '')
  await following
  const stored = await builderd.sql<{ seq: bigint }[]>`select seq from builderd.build_logs order by seq`
  assert.deepEqual(
    stored.map(row => row.seq),
    stored.map((_, i) => BigInt(i + 1)),
    'no line is missing or doubled',
  )
  assert.equal(lines.length, stored.length, `who followed saw all of it: ${JSON.stringify(lines)}`)
})

test('the console’s token reads across tenants and acts as its role allows', async t => {
  const { builderd, uri } = await startWith(t)
  const secret = Buffer.from('a secret of tests that is long enough')
  const token = (role: 'viewer' | 'owner', audience = 'builderd') =>
    `Bearer ${mintToken(secret, { audience, role, subject: 'console', clock: systemClock })}`
  const viewer = { authorization: token('viewer') }
  assert.equal(
    await codeOf(builderd.as('acme', viewer).createBuild({ config: configFor('acme', uri) })),
    Code.PermissionDenied,
  )
  const owner = builderd.as('acme', { authorization: token('owner') })
  const { buildId } = await owner.createBuild({ config: configFor('acme', uri) })
  await untilOver(owner, buildId)
  const list = await jsonOf<BuildList>(await fetch(`${builderd.url}/v1/builds?limit=10`, { headers: viewer }))
  assert.deepEqual([list.total, list.builds[0]?.buildId, list.builds[0]?.tenantId], [1, buildId, 'acme'])
  const logs = await fetch(`${builderd.url}/builder.v1.BuilderService/GetBuildLogs/${buildId}`, { headers: viewer })
  assert.match(await logs.text(), /COMPLETED/)
  const elsewhere = await fetch(`${builderd.url}/v1/builds`, { headers: { authorization: token('owner', 'billaged') } })
  assert.equal(elsewhere.status, 401)
  assert.equal((await fetch(`${builderd.url}/v1/builds`)).status, 403, 'open access is not operator access')
})

test('a local layout is built for admins only, and only below its folder', async t => {
  const sources = temporaryDirectory(t)
  writeLayout(join(sources, 'app'), image, 'latest')
  writeFileSync(join(sources, 'outside'), '')
  const builderd = await startBuilderd(t, { UNKEY_BUILDERD_LOCAL_SOURCES_DIR: join(sources) })
  if (process.getuid?.() === 0) (await import('node:fs')).chmodSync(sources, 0o755)
  await assert.rejects(create(builderd, 'acme', 'oci:app'), rejectsWith(Code.PermissionDenied, /builds:admin/))
  const secret = Buffer.from('a secret of tests that is long enough')
  const token = mintToken(secret, { audience: 'builderd', role: 'owner', subject: 'console', clock: systemClock })
  const owner = builderd.as('acme', { authorization: `Bearer ${token}` })
  await assert.rejects(
    owner.createBuild({ config: configFor('acme', 'oci:../x') }),
    rejectsWith(Code.InvalidArgument, /below LOCAL_SOURCES_DIR/),
  )
  const { buildId } = await owner.createBuild({ config: configFor('acme', 'oci:app:latest') })
  const build = await untilOver(owner, buildId)
  assert.equal(build.errorMessage, '')
})

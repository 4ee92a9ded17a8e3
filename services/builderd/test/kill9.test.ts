// A daemon that is killed in the middle, for real: what was accepted is finished by its next life, with the same bytes.

import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { BuildState } from '#proto/builder/v1/builder_pb'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { archive } from './archive.ts'
import { clientOf, configFor, untilOver, untilState } from './builderd.ts'
import { makeImage } from './image.ts'
import { isAlive, spawnBuilderd, workersOf } from './process.ts'
import { startRudeRegistry } from './rude-registry.ts'
import { temporaryDirectory } from './tools.ts'

const layer = archive([
  { name: 'big', body: Buffer.alloc(400_000, 'x') },
  { name: 'bin/run', body: '#!/bin/sh\n', mode: 0o755 },
])
const image = makeImage([layer], { compression: 'none' })
const [layerDigest = ''] = image.layerDigests

test('kill -9 of the daemon in mid-build: after a restart it is COMPLETED, same image, same checksum, one slot, one artifact', async t => {
  let isHeld = true
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    const blob = image.blobs.get(layerDigest)
    if (!isHeld || !path.endsWith(layerDigest) || !blob) return false
    // Half of the layer comes, then nothing: the build stands in the middle of its pull.
    response.writeHead(200, { 'content-length': blob.length })
    response.write(blob.subarray(0, 200_000))
    return true
  })
  const database = await testDatabase(t)
  const dataDir = temporaryDirectory(t)
  const env = {
    PURSER_DATA_DIR: dataDir,
    PURSER_SECRET: 'a secret of tests that is long enough',
    UNKEY_BUILDERD_DATABASE_URL: database.url,
    UNKEY_BUILDERD_DOCKER_INSECURE_REGISTRIES: registry.address,
    UNKEY_BUILDERD_TENANT_DEFAULT_MAX_DAILY_BUILDS: '20',
  }
  const uri = `${registry.address}/team/app:1.0`
  const first = await spawnBuilderd(t, env)
  const acme = clientOf(first.url, { 'x-tenant-id': 'acme' })
  const { buildId } = await acme.createBuild({ config: configFor('acme', uri) })
  const waiting = await acme.createBuild({ config: configFor('acme', uri) })
  await untilState(acme, buildId, BuildState.PULLING)
  const cache = join(dataDir, 'builderd', 'cache', 'blobs', 'sha256')
  const isPart = (name: string) => name.endsWith('.part') && statSync(join(cache, name)).size > 0
  await pollUntil(() => readdirSync(cache, { recursive: true, encoding: 'utf8' }).some(isPart), {
    what: 'a part in the cache, with something in it to go on from',
  })
  const workers = workersOf(first.pid)
  assert.equal(workers.length, 1)
  await first.signal('SIGKILL')
  await pollUntil(() => !workers.some(isAlive), { what: 'the build process to follow its daemon' })

  isHeld = false
  const second = await spawnBuilderd(t, env)
  const again = clientOf(second.url, { 'x-tenant-id': 'acme' })
  const build = await untilOver(again, buildId)
  assert.equal(build.errorMessage, '')
  assert.equal(build.state, BuildState.COMPLETED)
  assert.equal((await untilOver(again, waiting.buildId)).rootfsChecksum, build.rootfsChecksum)
  assert.ok(
    build.buildLogs.some(line => line.includes('was restarted; queued again')),
    build.buildLogs.join('\n'),
  )
  const resumed = registry.requests.filter(r => r.path.endsWith(layerDigest)).at(-1)
  assert.match(resumed?.range ?? '', /^bytes=\d+-$/, 'the pull went on where it stopped')

  const undisturbed = await again.createBuild({ config: configFor('acme', uri) })
  assert.equal((await untilOver(again, undisturbed.buildId)).rootfsChecksum, build.rootfsChecksum)
  const usage = (await again.getTenantQuotas({})).currentUsage
  assert.deepEqual([usage?.activeBuilds, usage?.buildsQueued, usage?.buildsCompletedToday], [0, 0, 3])
  assert.equal(usage?.storageBytesUsed, build.rootfsSizeBytes, 'one artifact, however many builds and lives')
  const [log] = await database.sql<{ gaps: bigint }[]>`
    select count(*) as gaps from (
      select seq - lag(seq, 1, 0::bigint) over (partition by build_id order by seq) as step from builderd.build_logs) s where step <> 1`
  assert.equal(log?.gaps, 0n, 'the log has no gap')
  await second.signal('SIGTERM')
  const scratch = join(dataDir, 'builderd', 'scratch')
  assert.deepEqual(readdirSync(scratch), [], 'nothing of either life is left in scratch')
})

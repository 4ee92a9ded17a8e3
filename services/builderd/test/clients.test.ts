// The wire, as clients that are not ours speak it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fromBinary, ScalarType, toBinary } from '@bufbuild/protobuf'
import { createClient } from '@connectrpc/connect'
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node'
import grpc from '@grpc/grpc-js'
import { systemClock } from '#platform/time'
import {
  BuilderService,
  BuildState,
  CreateBuildRequestSchema,
  CreateBuildResponseSchema,
  StreamBuildLogsRequestSchema,
  StreamBuildLogsResponseSchema,
} from '#proto/builder/v1/builder_pb'
import { runCli } from '../cli/commands.ts'
import { archive } from './archive.ts'
import { startBuilderd, untilOver } from './builderd.ts'
import { makeImage, writeLayout } from './image.ts'
import { cliProgram, program } from './process.ts'
import { startRudeRegistry } from './rude-registry.ts'
import { temporaryDirectory } from './tools.ts'

const image = makeImage([archive([{ name: 'bin/run', body: '#!/bin/sh\n', mode: 0o755 }])])

test('Connect in JSON and binary, gRPC and gRPC-web, over HTTP/1.1 and HTTP/2, get the same answers', async t => {
  const builderd = await startBuilderd(t)
  const baseUrl = builderd.url
  const transports = {
    'connect, binary, h1': createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: true }),
    'connect, json, h1': createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false }),
    'connect, json, h2': createConnectTransport({ baseUrl, httpVersion: '2', useBinaryFormat: false }),
    'grpc, h2': createGrpcTransport({ baseUrl }),
    'grpc-web, h1': createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  }
  for (const [name, transport] of Object.entries(transports)) {
    const client = createClient(BuilderService, transport)
    const headers = { 'x-tenant-id': 'acme' }
    const { currentLimits } = await client.getTenantQuotas({}, { headers })
    assert.equal(currentLimits?.maxStorageBytes, 1_073_741_824n, name)
    await assert.rejects(client.getBuild({ buildId: 'x' }, { headers }), /not_found.*build not found: x/, name)
    await assert.rejects(client.getTenantQuotas({}), /unauthenticated.*tenant ID is required/, name)
  }
})

for (const service of ['builder.v1.BuilderService', 'deploy.builderd.v1.BuilderService'])
  test(`grpc-js creates and follows a build under ${service}`, async t => {
    const registry = await startRudeRegistry(t, image)
    const builderd = await startBuilderd(t, { UNKEY_BUILDERD_DOCKER_INSECURE_REGISTRIES: registry.address })
    const client = new grpc.Client(new URL(builderd.url).host, grpc.credentials.createInsecure())
    t.after(() => client.close())
    const metadata = new grpc.Metadata()
    metadata.set('x-tenant-id', 'acme')
    const same = (bytes: Buffer) => bytes

    const request = Buffer.from(
      toBinary(CreateBuildRequestSchema, {
        $typeName: 'builder.v1.CreateBuildRequest',
        config: fromBinary(CreateBuildRequestSchema, encode('acme', `${registry.address}/a/b`)).config,
      }),
    )
    const created = await new Promise<Buffer>((resolve, reject) =>
      client.makeUnaryRequest(`/${service}/CreateBuild`, same, same, request, metadata, (error, answer) =>
        error || !answer ? reject(error) : resolve(answer),
      ),
    )
    const { buildId, state } = fromBinary(CreateBuildResponseSchema, created)
    assert.equal(state, BuildState.PENDING)

    const follow = Buffer.from(
      toBinary(StreamBuildLogsRequestSchema, {
        $typeName: 'builder.v1.StreamBuildLogsRequest',
        buildId,
        tenantId: 'acme',
        follow: true,
      }),
    )
    const stream = client.makeServerStreamRequest(`/${service}/StreamBuildLogs`, same, same, follow, metadata)
    const messages: string[] = []
    for await (const bytes of stream) messages.push(fromBinary(StreamBuildLogsResponseSchema, bytes).message)
    assert.match(messages.at(-1) ?? '', /^COMPLETED: /)
    assert.equal((await untilOver(builderd.as('acme'), buildId)).state, BuildState.COMPLETED)
  })

/** A request as another implementation would have encoded it: field numbers by hand. */
function encode(tenantId: string, imageUri: string): Buffer {
  const field = (number: number, body: Buffer) => Buffer.concat([Buffer.from([(number << 3) | 2, body.length]), body])
  const text = (number: number, value: string) => field(number, Buffer.from(value))
  const tenant = field(1, text(1, tenantId))
  const source = field(2, field(1, text(1, imageUri)))
  const target = field(3, field(1, Buffer.alloc(0)))
  const strategy = field(4, field(1, Buffer.alloc(0)))
  return field(1, Buffer.concat([tenant, source, target, strategy]))
}

interface Ran {
  code: number
  out: string
  talk: string
}

function runProgram(path: string, args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise(resolve => {
    execFile(
      path,
      args,
      {
        env: {
          PATH: process.env.PATH,
          NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
          HOME: process.env.HOME,
          ...env,
        },
      },
      (error, out, talk) => {
        resolve({ code: typeof error?.code === 'number' ? error.code : error ? -1 : 0, out, talk })
      },
    )
  })
}

test('builderd-cli: every command, flags anywhere, exit codes that tell', async t => {
  const registry = await startRudeRegistry(t, image, (_, response, path) => {
    if (!path.includes('/private/')) return false
    response.writeHead(404).end()
    return true
  })
  const builderd = await startBuilderd(t, { UNKEY_BUILDERD_DOCKER_INSECURE_REGISTRIES: registry.address })
  const env = { UNKEY_BUILDERD_SERVER_ADDRESS: builderd.url, UNKEY_BUILDERD_TENANT_ID: 'acme' }
  /** What bin/builderd-cli calls; one call below goes through the launcher itself. */
  const cli = async (...args: string[]): Promise<Ran> => {
    const ran: Ran = { code: 0, out: '', talk: '' }
    const out = (text: string) => {
      ran.out += text
    }
    const talk = (text: string) => {
      ran.talk += text
    }
    ran.code = await runCli(args, { env, clock: systemClock, out, talk })
    return ran
  }
  const uri = `${registry.address}/a/b`

  const waited = await runProgram(cliProgram, ['create-build', uri, '--wait'], env)
  assert.equal(waited.code, 0, waited.talk)
  assert.match(waited.out, /^COMPLETED in [\d.]+ s → .*filesystem\.tar\n$/)
  const plain = await cli('create-build', uri)
  const buildId = /Build ID: (build_\w+)/.exec(plain.out)?.[1] ?? ''
  assert.match(plain.out, /^Build created:\n {2}Build ID: build_\w+\n {2}State: BUILD_STATE_PENDING\n {2}Created at: /)
  assert.equal((await cli('wait', buildId)).code, 0)

  const [failed, list, quotas, stats, logs, missing, unknown] = await Promise.all([
    cli('create-build', `${registry.address}/private/x`, '-wait', '-json'),
    cli('-tenant', 'acme', 'list-builds'),
    cli('get-quotas', '--json'),
    cli('get-stats', '48'),
    cli('stream-logs', buildId),
    cli('get-build', 'build_01JB5Q8W3M9ZK4T7XNE2R6VHCD'),
    cli('make-coffee'),
  ])
  assert.equal(failed.code, 3)
  assert.match(JSON.parse(failed.out).errorMessage, /^INVALID_SOURCE: .*has no manifest latest/)
  assert.match(list.out, /^Builds \(total: [23]\):\n/)
  assert.equal(JSON.parse(quotas.out).currentLimits.maxDailyBuilds, 5)
  assert.match(stats.out, /^Builds of the last 48 h: [23] \(/)
  assert.match(logs.out, /^\[\d\d:\d\d:\d\d\] scheduler: queued /)
  assert.equal(missing.code, 5)
  assert.deepEqual([unknown.code, unknown.out], [2, ''])
  assert.equal((await cli('delete-build', buildId)).code, 0)
  assert.equal((await cli('cancel-build', buildId)).code, 5)
})

test('builderd convert: the sample without a network, an OCI layout, what is not there yet by name', async t => {
  const directory = temporaryDirectory(t)
  const convert = (...args: string[]) =>
    runProgram(program, ['convert', '--cache-dir', join(directory, 'cache'), ...args], { PURSER_DATA_DIR: directory })
  const layout = join(directory, 'layout')
  writeLayout(layout, image, 'v1')
  const [sample, local, ext4] = await Promise.all([
    convert('--sample', '-o', join(directory, 'a.tar')),
    convert(`oci:${layout}:v1`, '-o', join(directory, 'c.tar'), '--json'),
    convert('--sample', '-o', join(directory, 'd.ext4'), '--format', 'ext4'),
  ])
  assert.equal(sample.code, 0, sample.talk)
  assert.match(
    sample.out,
    new RegExp(
      `sha256 ${createHash('sha256')
        .update(readFileSync(join(directory, 'a.tar')))
        .digest('hex')}`,
    ),
  )
  assert.equal(local.code, 0, local.talk)
  assert.equal(JSON.parse(local.out).metadata.imageDigest, image.manifestDigest)
  assert.deepEqual([ext4.code, /ext4 is not there yet/.test(ext4.talk)], [2, true])
})

test('migrate, validate-db and tenant do what the guide says, from the file that --config names', async t => {
  const { testDatabase } = await import('../../../test/kit/database.ts')
  const { writeFileSync } = await import('node:fs')
  const directory = temporaryDirectory(t)
  const { url, sql } = await testDatabase(t)
  const file = join(directory, 'builderd.env')
  writeFileSync(
    file,
    `# as the guide writes it\nUNKEY_BUILDERD_DATABASE_TYPE=postgres\nUNKEY_BUILDERD_DATABASE_URL="${url}"\nPURSER_DATA_DIR=${directory}\n`,
  )
  const builderd = (...args: string[]) => runProgram(program, args)
  assert.equal((await builderd('validate-db', '--config', file)).code, 1)
  assert.match((await builderd('migrate', '--config', file)).out, /applied 0001-init\.sql/)
  const [valid, set, connected] = await Promise.all([
    builderd('validate-db', `--config=${file}`),
    builderd('--config', file, 'tenant', 'set', 'acme', '--tier', 'pro'),
    builderd('-test-database', '--config', file),
  ])
  assert.deepEqual([valid.code, set.code, connected.code], [0, 0, 0])
  assert.match(connected.out, /connected to PostgreSQL \d+.*schema builderd is there/)
  const [row] = await sql<{ tier: string }[]>`select tier from builderd.tenants where tenant_id = 'acme'`
  assert.equal(row?.tier, 'pro')
  const bad = join(directory, 'bad.env')
  writeFileSync(bad, 'UNKEY_BUILDERD_PROT=1\nUNKEY_BUILDERD_BUILD_TIMEOUT=soon\n')
  const refused = await builderd('--validate-config', '--config', bad)
  assert.equal(refused.code, 1)
  assert.match(
    refused.talk,
    /did you mean UNKEY_BUILDERD_PORT\?[\s\S]*BUILD_TIMEOUT|BUILD_TIMEOUT[\s\S]*did you mean UNKEY_BUILDERD_PORT\?/,
  )
})

// The published table, number by number. Written down apart from the .proto file, so that a slip there is seen here.
const published: Record<string, string> = {
  TenantContext: 'tenant_id=1 customer_id=2 organization_id=3 tier=4 permissions=5 metadata=6',
  BuildSource: 'docker_image=1 git_repository=2 archive=3',
  DockerImageSource: 'image_uri=1 auth=2 pull_tags=3',
  DockerAuth: 'username=1 password=2 token=3 registry=4',
  GitRepositorySource: 'repository_url=1 ref=2 build_context=3 auth=4',
  GitAuth: 'username=1 password=2 ssh_key=3 token=4',
  ArchiveSource: 'archive_url=1 archive_type=2 build_context=3',
  BuildTarget: 'microvm_rootfs=1 container_image=2',
  MicroVMRootfs: 'init_strategy=1 runtime_config=2 optimization=3 preserve_paths=4',
  ContainerImage: 'base_image=1 layers=2',
  RuntimeConfig: 'command=1 entrypoint=2 working_dir=3 environment=4 exposed_ports=5',
  OptimizationSettings:
    'strip_debug_symbols=1 compress_binaries=2 remove_docs=3 remove_cache=4 preserve_paths=5 exclude_patterns=6',
  BuildStrategy: 'docker_extract=1 go_api=2 sinatra=3 nodejs=4',
  DockerExtractStrategy: 'preserve_layers=1 flatten_filesystem=2 exclude_patterns=3',
  GoApiStrategy: 'go_version=1 build_flags=2 main_package=3 enable_cgo=4',
  SinatraStrategy: 'ruby_version=1 gemfile_path=2 rack_server=3 rack_config=4',
  NodejsStrategy: 'node_version=1 package_manager=2 start_script=3 enable_production=4',
  TenantResourceLimits:
    'max_memory_bytes=1 max_cpu_cores=2 max_disk_bytes=3 timeout_seconds=4 max_concurrent_builds=5 max_daily_builds=6 max_storage_bytes=7 max_build_time_minutes=8 allowed_registries=9 allowed_git_hosts=10 allow_external_network=11 allow_privileged_builds=12 blocked_commands=13 sandbox_level=14',
  BuildConfig: 'tenant=1 source=2 target=3 strategy=4 limits=5 build_name=6 labels=7 suggested_asset_id=8',
  ImageMetadata:
    'original_image=1 image_digest=2 layers=3 labels=4 command=5 entrypoint=6 working_dir=7 env=8 exposed_ports=9 user=10 volumes=11',
  BuildMetrics:
    'pull_duration_ms=1 extract_duration_ms=2 build_duration_ms=3 optimize_duration_ms=4 total_duration_ms=5 original_size_bytes=6 rootfs_size_bytes=7 compression_ratio=8 memory_peak_bytes=9 disk_usage_bytes=10 cpu_cores_used=11',
  BuildJob:
    'build_id=1 config=2 state=3 created_at=4 started_at=5 completed_at=6 rootfs_path=7 rootfs_size_bytes=8 rootfs_checksum=9 image_metadata=10 metrics=11 isolation=12 error_message=13 build_logs=14 progress_percent=15 current_step=16',
  BuildIsolation: 'sandbox_id=1 network_namespace=2 filesystem_namespace=3 security_contexts=4 cgroup_path=5',
  StreamBuildLogsResponse: 'timestamp=1 level=2 message=3 component=4 metadata=5',
  TenantUsageStats:
    'active_builds=1 daily_builds_used=2 storage_bytes_used=3 compute_minutes_used=4 builds_queued=5 builds_completed_today=6 builds_failed_today=7',
  QuotaViolation: 'quota_type=1 current_value=2 limit_value=3 message=4',
  CreateBuildRequest: 'config=1',
  CreateBuildResponse: 'build_id=1 state=2 created_at=3 rootfs_path=4',
  GetBuildRequest: 'build_id=1 tenant_id=2',
  GetBuildResponse: 'build=1',
  ListBuildsRequest: 'tenant_id=1 state_filter=2 page_size=3 page_token=4',
  ListBuildsResponse: 'builds=1 next_page_token=2 total_count=3',
  CancelBuildRequest: 'build_id=1 tenant_id=2',
  CancelBuildResponse: 'success=1 state=2',
  DeleteBuildRequest: 'build_id=1 tenant_id=2 force=3',
  DeleteBuildResponse: 'success=1',
  StreamBuildLogsRequest: 'build_id=1 tenant_id=2 follow=3',
  GetTenantQuotasRequest: 'tenant_id=1',
  GetTenantQuotasResponse: 'current_limits=1 current_usage=2 violations=3',
  GetBuildStatsRequest: 'tenant_id=1 start_time=2 end_time=3',
  GetBuildStatsResponse:
    'total_builds=1 successful_builds=2 failed_builds=3 avg_build_time_ms=4 total_storage_bytes=5 total_compute_minutes=6 recent_builds=7',
}
/** 64-bit fields; every other number is 32 bits. */
const wide =
  /^(max_(memory|disk|storage)_bytes|.*_ms|.*_size_bytes|compression_ratio|memory_peak_bytes|disk_usage_bytes|storage_bytes_used|compute_minutes_used|(current|limit)_value|total_(storage_bytes|compute_minutes))$/

test('every message of the contract has the names, numbers and widths it was published with', () => {
  const { messages, enums } = BuilderService.file
  const found = messages.map(m => [m.name, m.fields.map(f => `${f.name}=${f.number}`).join(' ')])
  assert.deepEqual(Object.fromEntries(found), published)
  for (const message of messages)
    for (const field of message.fields)
      if (field.scalar === ScalarType.INT32 || field.scalar === ScalarType.INT64)
        assert.equal(field.scalar === ScalarType.INT64, wide.test(field.name), `${message.name}.${field.name}`)
  const values = Object.fromEntries(enums.map(e => [e.name, e.values.map(v => `${v.localName}=${v.number}`).join(' ')]))
  assert.deepEqual(values, {
    BuildState:
      'UNSPECIFIED=0 PENDING=1 PULLING=2 EXTRACTING=3 BUILDING=4 OPTIMIZING=5 COMPLETED=6 FAILED=7 CANCELLED=8 CLEANING=9',
    TenantTier: 'UNSPECIFIED=0 FREE=1 PRO=2 ENTERPRISE=3 DEDICATED=4',
    InitStrategy: 'UNSPECIFIED=0 TINI=1 DIRECT=2 CUSTOM=3',
  })
})

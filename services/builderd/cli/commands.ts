// What builderd-cli can do. Results go to stdout, talk to stderr; --json prints the messages of the contract.
//
// Exit codes: 0 done, 1 the call failed, 2 wrong usage, 3 the build FAILED, 4 it was CANCELLED, 5 not found.

import { type DescMessage, type MessageShape, toJsonString } from '@bufbuild/protobuf'
import { type Timestamp, timestampDate, timestampFromMs } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError } from '@connectrpc/connect'
import { type Clock, sleep } from '#platform/time'
import {
  type BuildJob,
  BuildJobSchema,
  BuildState,
  CancelBuildResponseSchema,
  CreateBuildResponseSchema,
  DeleteBuildResponseSchema,
  GetBuildStatsResponseSchema,
  GetTenantQuotasResponseSchema,
  ListBuildsResponseSchema,
  StreamBuildLogsResponseSchema,
} from '#proto/builder/v1/builder_pb'
import { buildStates } from '../build-state.ts'
import { stateNumber } from '../rpc/messages.ts'
import { type Connection, connect, connectionOptions } from './client.ts'
import { parseFlags, UsageError } from './flags.ts'
import { formatBytes, formatSeconds } from './format.ts'

export interface Terminal {
  env: Readonly<Record<string, string | undefined>>
  clock: Clock
  out: (text: string) => void
  talk: (text: string) => void
}

const usage = `Usage: builderd-cli [flags] command

  create-build IMAGE [--wait] [--name NAME] [--label KEY=VALUE] [--env NAME=VALUE] [--entrypoint WORD]
                     [--platform linux/ARCH] [--username NAME --password-stdin]
  get-build ID             list-builds              cancel-build ID
  delete-build ID [--force]                         stream-logs ID [--no-follow]
  wait ID                  get-quotas               get-stats [HOURS=24]

Flags, anywhere, one dash or two (environment: UNKEY_BUILDERD_SERVER_ADDRESS, …_TENANT_ID, …_USER_ID, …_API_KEY):
  --server URL             http://localhost:8082
  --tenant ID  --user ID   cli-tenant, cli-user
  --api-key KEY            better in the environment: arguments can be seen by others on the machine
  --tls-mode disabled|file --tls-cert FILE --tls-key FILE --tls-ca FILE
  --timeout 30s            of calls; streams have none
  --json                   the answers as JSON

Exit: 0 done, 1 call failed, 2 usage, 3 build FAILED, 4 build CANCELLED, 5 not found
`

const options = {
  ...connectionOptions,
  json: { type: 'boolean', default: false },
  force: { type: 'boolean', default: false },
  wait: { type: 'boolean', default: false },
  'no-follow': { type: 'boolean', default: false },
  name: { type: 'string', default: '' },
  label: { type: 'string', multiple: true, default: [] as string[] },
  env: { type: 'string', multiple: true, default: [] as string[] },
  entrypoint: { type: 'string', multiple: true, default: [] as string[] },
  platform: { type: 'string' },
  username: { type: 'string' },
  'password-stdin': { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

type Flags = ReturnType<typeof parseFlags<typeof options>>['values']

const exit = { ok: 0, failedCall: 1, usage: 2, failedBuild: 3, cancelledBuild: 4, notFound: 5 } as const

export async function runCli(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    const { values, positionals } = parseFlags(args, options)
    const [command, ...rest] = positionals
    if (values.help || command === undefined) {
      ;(values.help ? terminal.out : terminal.talk)(usage)
      return values.help ? exit.ok : exit.usage
    }
    const run = commands[command]
    if (!run) throw new UsageError(`${JSON.stringify(command)} is not a command`)
    return await run({ ...terminal, ...connect(values, terminal.env), flags: values }, rest)
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.talk(`builderd-cli: ${error.message}\nTry builderd-cli --help.\n`)
      return exit.usage
    }
    if (error instanceof ConnectError) {
      terminal.talk(`builderd-cli: ${Code[error.code] ?? error.code}: ${error.rawMessage}\n`)
      return error.code === Code.NotFound ? exit.notFound : exit.failedCall
    }
    throw error
  }
}

type Run = Terminal & Connection & { flags: Flags }

const commands: Readonly<Record<string, (run: Run, args: readonly string[]) => Promise<number>>> = {
  async 'create-build'(run, args) {
    const image = only(args, 'IMAGE')
    const { flags, client, tenantId, timeoutMs } = run
    const created = await client.createBuild(
      {
        config: {
          tenant: { tenantId },
          source: { sourceType: { case: 'dockerImage', value: { imageUri: image, ...(await readAuth(flags)) } } },
          target: {
            targetType: {
              case: 'microvmRootfs',
              value: { runtimeConfig: { entrypoint: flags.entrypoint, environment: pairs(flags.env, '--env') } },
            },
          },
          strategy: { strategyType: { case: 'dockerExtract', value: {} } },
          buildName: flags.name,
          labels: {
            ...pairs(flags.label, '--label'),
            ...(flags.platform === undefined ? {} : { 'purser.platform': flags.platform }),
          },
        },
      },
      { timeoutMs },
    )
    if (flags.wait) {
      run.talk(`${created.buildId} queued\n`)
      return follow(run, created.buildId)
    }
    if (flags.json) printJson(run, CreateBuildResponseSchema, created)
    else
      run.out(
        `Build created:\n  Build ID: ${created.buildId}\n  State: ${stateName(created.state)}\n  Created at: ${timeText(created.createdAt)}\n  Rootfs path: ${created.rootfsPath}\n`,
      )
    return exit.ok
  },
  async wait(run, args) {
    return follow(run, only(args, 'ID'))
  },
  async 'get-build'(run, args) {
    const build = await load(run, only(args, 'ID'))
    if (run.flags.json) printJson(run, BuildJobSchema, build)
    else run.out(describe(build))
    return exit.ok
  },
  async 'list-builds'(run, args) {
    none(args)
    const list = await run.client.listBuilds({ pageSize: 50 }, { timeoutMs: run.timeoutMs })
    if (run.flags.json) printJson(run, ListBuildsResponseSchema, list)
    else {
      run.out(`Builds (total: ${list.totalCount}):\n`)
      for (const build of list.builds)
        run.out(
          `  ${build.buildId}  ${stateName(build.state).padEnd(22)}  ${timeText(build.createdAt)}  ${imageOf(build)}\n`,
        )
      if (list.nextPageToken !== '') run.talk(`  … and ${list.totalCount - list.builds.length} more\n`)
    }
    return exit.ok
  },
  async 'cancel-build'(run, args) {
    const buildId = only(args, 'ID')
    const answer = await run.client.cancelBuild({ buildId }, { timeoutMs: run.timeoutMs })
    if (run.flags.json) printJson(run, CancelBuildResponseSchema, answer)
    else run.out(`Build ${buildId} cancelled\n  State: ${stateName(answer.state)}\n`)
    return exit.ok
  },
  async 'delete-build'(run, args) {
    const buildId = only(args, 'ID')
    const answer = await run.client.deleteBuild({ buildId, force: run.flags.force }, { timeoutMs: run.timeoutMs })
    if (run.flags.json) printJson(run, DeleteBuildResponseSchema, answer)
    else run.out(`Build ${buildId} deleted\n`)
    return exit.ok
  },
  async 'stream-logs'(run, args) {
    const buildId = only(args, 'ID')
    for await (const line of run.client.streamBuildLogs({ buildId, follow: !run.flags['no-follow'] })) {
      if (run.flags.json) run.out(`${toJsonString(StreamBuildLogsResponseSchema, line)}\n`)
      else run.out(`[${clockText(line.timestamp)}] ${line.component}: ${line.message}\n`)
    }
    return exit.ok
  },
  async 'get-quotas'(run, args) {
    none(args)
    const quotas = await run.client.getTenantQuotas({}, { timeoutMs: run.timeoutMs })
    if (run.flags.json) printJson(run, GetTenantQuotasResponseSchema, quotas)
    else {
      const { currentLimits: limits, currentUsage: usage } = quotas
      const row = (name: string, used: number | string, limit: number | string) =>
        `  ${name.padEnd(20)} ${String(used).padStart(12)} / ${limit}\n`
      run.out(`Quotas of tenant ${run.tenantId}:\n`)
      run.out(row('concurrent builds', usage?.activeBuilds ?? 0, limits?.maxConcurrentBuilds ?? 0))
      run.out(row('builds today', usage?.dailyBuildsUsed ?? 0, limits?.maxDailyBuilds ?? 0))
      run.out(
        row(
          'storage',
          formatBytes(Number(usage?.storageBytesUsed ?? 0n)),
          formatBytes(Number(limits?.maxStorageBytes ?? 0n)),
        ),
      )
      run.out(`  ${'queued'.padEnd(20)} ${String(usage?.buildsQueued ?? 0).padStart(12)}\n`)
      for (const violation of quotas.violations) run.out(`  ${violation.message}\n`)
    }
    return exit.ok
  },
  async 'get-stats'(run, args) {
    const [hours = '24', ...more] = args
    if (more.length > 0 || !/^[0-9]{1,5}$/.test(hours) || Number(hours) < 1)
      throw new UsageError('get-stats takes HOURS, a whole number from 1')
    const nowMs = run.clock.now()
    const stats = await run.client.getBuildStats(
      {
        tenantId: run.tenantId,
        startTime: timestampFromMs(nowMs - Number(hours) * 3_600_000),
        endTime: timestampFromMs(nowMs + 1),
      },
      { timeoutMs: run.timeoutMs },
    )
    if (run.flags.json) printJson(run, GetBuildStatsResponseSchema, stats)
    else
      run.out(
        `Builds of the last ${hours} h: ${stats.totalBuilds} (${stats.successfulBuilds} completed, ${stats.failedBuilds} failed)\n` +
          `  average time: ${formatSeconds(Number(stats.avgBuildTimeMs))}\n  storage: ${formatBytes(Number(stats.totalStorageBytes))}\n` +
          `  compute: ${stats.totalComputeMinutes} min\n`,
      )
    return exit.ok
  },
}

/** Talks along with the log, then tells how it ended. A lost connection is picked up where it broke. */
async function follow(run: Run, buildId: string): Promise<number> {
  let cursor = ''
  for (let failures = 0; failures < 5; ) {
    try {
      const headers = { 'x-log-after': cursor }
      for await (const line of run.client.streamBuildLogs({ buildId, follow: true }, { headers })) {
        failures = 0
        cursor = line.metadata.cursor ?? cursor
        if (line.level !== 'debug') run.talk(`  ${line.component.padEnd(9)} ${line.message}\n`)
      }
      break
    } catch (error) {
      if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error
      failures++
      run.talk('  connection lost, trying again\n')
      await sleep(1_000)
    }
  }
  const build = await load(run, buildId)
  if (run.flags.json) printJson(run, BuildJobSchema, build)
  else {
    const took = formatSeconds(Number(build.metrics?.totalDurationMs ?? 0n))
    run.out(
      build.state === BuildState.COMPLETED
        ? `COMPLETED in ${took} → ${build.rootfsPath}\n`
        : `${stateName(build.state).replace('BUILD_STATE_', '')} ${build.errorMessage}\n`,
    )
  }
  return exitOf(build)
}

function exitOf({ state }: BuildJob): number {
  if (state === BuildState.COMPLETED) return exit.ok
  if (state === BuildState.FAILED) return exit.failedBuild
  return state === BuildState.CANCELLED ? exit.cancelledBuild : exit.failedCall
}

async function load({ client, timeoutMs }: Run, buildId: string): Promise<BuildJob> {
  const { build } = await client.getBuild({ buildId }, { timeoutMs })
  if (!build) throw new ConnectError('the server answered without a build', Code.Internal)
  return build
}

function describe(build: BuildJob): string {
  const lines = [
    `Build ${build.buildId}:`,
    `  State: ${stateName(build.state)}`,
    `  Image: ${imageOf(build)}`,
    `  Progress: ${build.progressPercent}%${build.currentStep === '' ? '' : ` (${build.currentStep})`}`,
    `  Created at: ${timeText(build.createdAt)}`,
    ...(build.completedAt ? [`  Completed at: ${timeText(build.completedAt)}`] : []),
    `  Rootfs path: ${build.rootfsPath}`,
    ...(build.rootfsChecksum === ''
      ? []
      : [`  Rootfs size: ${formatBytes(Number(build.rootfsSizeBytes))}`, `  Checksum: sha256 ${build.rootfsChecksum}`]),
    ...(build.errorMessage === '' ? [] : [`  Error: ${build.errorMessage}`]),
  ]
  return `${lines.join('\n')}\n`
}

function imageOf(build: BuildJob): string {
  const source = build.config?.source?.sourceType
  return source?.case === 'dockerImage' ? source.value.imageUri : ''
}

function stateName(state: BuildState): string {
  return `BUILD_STATE_${buildStates.find(name => stateNumber[name] === state) ?? 'UNSPECIFIED'}`
}

function timeText(time: Timestamp | undefined): string {
  return time ? timestampDate(time).toISOString() : ''
}

/** `15:04:05`, UTC. */
function clockText(time: Timestamp | undefined): string {
  return timeText(time).slice(11, 19)
}

function printJson<D extends DescMessage>(run: Run, schema: D, message: MessageShape<D>) {
  run.out(`${toJsonString(schema, message, { prettySpaces: 2 })}\n`)
}

function only(args: readonly string[], what: string): string {
  const [value, ...more] = args
  if (value === undefined || value === '' || more.length > 0) throw new UsageError(`this command takes one ${what}`)
  return value
}

function none(args: readonly string[]) {
  if (args.length > 0) throw new UsageError(`this command takes no arguments, got ${JSON.stringify(args[0])}`)
}

function pairs(entries: readonly string[], flag: string): Record<string, string> {
  return Object.fromEntries(
    entries.map(entry => {
      const equals = entry.indexOf('=')
      if (equals < 1) throw new UsageError(`${flag} ${JSON.stringify(entry)} must be NAME=VALUE`)
      return [entry.slice(0, equals), entry.slice(equals + 1)]
    }),
  )
}

async function readAuth(flags: Flags): Promise<{ auth?: { username: string; password: string } }> {
  if (flags.username === undefined) return {}
  if (!flags['password-stdin'])
    throw new UsageError('--username needs --password-stdin; a password never goes on a command line')
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk))
  return {
    auth: {
      username: flags.username,
      password: Buffer.concat(chunks)
        .toString('utf8')
        .replace(/\r?\n$/, ''),
    },
  }
}

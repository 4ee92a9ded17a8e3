import { ConnectError } from '@connectrpc/connect'
import { type Flags, parseArgs, UsageError } from './cli/args.ts'
import { runChaos } from './cli/chaos/run.ts'
import { createRpcClient } from './cli/client.ts'
import { runDemo } from './cli/demo.ts'
import { printResult } from './cli/output.ts'
import { exampleReading, readMetrics } from './cli/readings.ts'
import { simulate } from './cli/simulate.ts'
import { verifyReceipt } from './cli/verify.ts'
import { fetchSvid } from './tls/workload-api.ts'

const usage = `billaged-cli - CLI tool for billaged operations

Usage: billaged-cli [flags] <command> [args...] [flags]

Commands:
  send-metrics [-vm ID] [-file F.json]  Send VM metrics batch
  heartbeat [-instance ID] [-vms A,B]   Send heartbeat with active VMs
  notify-started <vm-id>                Notify that a VM has started
  notify-stopped <vm-id>                Notify that a VM has stopped
  notify-gap <vm-id> [minutes]          Notify about a possible gap in metrics (default: 5 minutes)
  demo [-live]                          Three customers, a plan, ten VMs and a month of readings
  chaos [-quick] [-seeds N] [-seed S] [-spawn CMD] [-tolerance P]
                                        VMs of known use on a bad day, and the bill compared; exits 1 above P percent
        [-resume FILE] [-for D]         Remember outcomes and go on from there; begin no seed after D
        [-kill-cmd CMD]                 Run between seeds to kill the server and start it again
        [-adapter billaged|openmeter|http] [-bill-url URL] [-bill-path $.value]
                                        How the bill is read; URL has {customer} {meter} {from} {to}
        [-server A,B]                   Replicas: each message goes to one of them
  verify <receipt.json> [-evidence F] [-samples F] [-previous F] [-public-key K]
                                        Check a receipt offline, as far down as the files reach
  simulate <plan.json | example> METER=NUMBER[UNIT]…
                                        What usage would cost under a plan, offline; exits 3 when some has no price

Flags (also after the command):
  -server ADDR     server address (UNKEY_BILLAGED_SERVER_ADDRESS, default localhost:8081)
  -user ID         user label (UNKEY_BILLAGED_USER_ID, default cli-user)
  -tenant ID       tenant (UNKEY_BILLAGED_TENANT_ID, default cli-tenant)
  -key KEY         API key instead of the user label (BILLAGED_API_KEY)
  -tls-mode MODE   disabled, file or spiffe (UNKEY_BILLAGED_TLS_MODE, default disabled)
  -spiffe-socket F Workload API socket (UNKEY_BILLAGED_SPIFFE_SOCKET)
  -tls-cert F, -tls-key F, -tls-ca F
  -timeout D       request timeout (default 30s)
  -json            results as JSON
`

const nowNs = () => BigInt(Date.now()) * 1_000_000n
const rfc3339 = (ns: bigint) => new Date(Number(ns / 1_000_000n)).toISOString()

async function run(argv: readonly string[]): Promise<number> {
  const { flags, words } = parseArgs(argv, process.env)
  const [command, ...args] = words
  const isOffline = command === undefined || ['verify', 'simulate'].includes(command)
  if (flags.tlsMode === 'spiffe' && !isOffline && !flags.help)
    flags.svid = await fetchSvid(flags.spiffeSocket, flags.timeoutMs)
  if (flags.help) {
    process.stdout.write(usage)
    return 0
  }
  switch (command) {
    case 'send-metrics':
      return sendMetrics(flags)
    case 'heartbeat': {
      const reply = await createRpcClient(flags).sendHeartbeat({ instanceId: flags.instance, activeVms: flags.vms })
      printResult(flags, 'Heartbeat sent', { Success: reply.success }, { 'Active VMs': flags.vms.length })
      return 0
    }
    case 'notify-started': {
      const [vmId, startTime] = [vmArgument(command, args), nowNs()]
      const reply = await createRpcClient(flags).notifyVmStarted({ vmId, customerId: flags.tenant, startTime })
      printResult(
        flags,
        'VM started notification',
        { Success: reply.success },
        { 'Start time': rfc3339(startTime) },
        vmId,
      )
      return 0
    }
    case 'notify-stopped': {
      const [vmId, stopTime] = [vmArgument(command, args), nowNs()]
      const reply = await createRpcClient(flags).notifyVmStopped({ vmId, stopTime })
      printResult(
        flags,
        'VM stopped notification',
        { Success: reply.success },
        { 'Stop time': rfc3339(stopTime) },
        vmId,
      )
      return 0
    }
    case 'notify-gap':
      return notifyGap(flags, vmArgument(command, args), args[1] ?? '5')
    case 'demo':
      return runDemo(flags)
    case 'chaos':
      return runChaos(flags, process.env)
    case 'simulate':
      return simulate(flags, args)
    case 'verify':
      return verifyReceipt(flags, args[0])
    default:
      if (command !== undefined) process.stderr.write(`Unknown command: ${command}\n`)
      process.stderr.write(usage)
      return 1
  }
}

async function sendMetrics(flags: Flags): Promise<number> {
  const metrics = flags.file === '' ? [exampleReading()] : readMetrics(flags.file)
  const reply = await createRpcClient(flags).sendMetricsBatch({ vmId: flags.vm, customerId: flags.tenant, metrics })
  const { success: Success, message: Message } = reply
  printResult(flags, 'Metrics sent', { Success, Message }, { 'Metrics count': metrics.length })
  return reply.success ? 0 : 1
}

async function notifyGap(flags: Flags, vmId: string, minutesText: string): Promise<number> {
  if (!/^\d{1,6}$/.test(minutesText)) throw new UsageError(`minutes is ${minutesText}; it is a whole number`)
  const resumeTime = nowNs()
  const lastSent = resumeTime - BigInt(minutesText) * 60_000_000_000n
  const reply = await createRpcClient(flags).notifyPossibleGap({ vmId, lastSent, resumeTime })
  const times = { 'Last sent': rfc3339(lastSent), 'Resume time': rfc3339(resumeTime) }
  printResult(
    flags,
    'Possible gap notification',
    { Success: reply.success },
    { 'Gap duration': `${minutesText}m0s`, ...times },
    vmId,
  )
  return 0
}

function vmArgument(command: string, args: readonly string[]): string {
  if (args[0] === undefined) throw new UsageError(`VM ID is required for ${command} command`)
  return args[0]
}

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`billaged-cli: ${error.message}\n`)
    process.exitCode = 2
  } else {
    const text = error instanceof ConnectError ? error.message : error instanceof Error ? error.message : String(error)
    process.stderr.write(`billaged-cli: ${text}\n`)
    process.exitCode = 1
  }
}

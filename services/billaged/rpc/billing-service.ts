import type { ConnectRouter, HandlerContext } from '@connectrpc/connect'
import { callKey } from '#platform/rpc'
import { type Clock, nowNs } from '#platform/time'
import { BillingService as BillagedV1 } from '#proto/billaged/v1/billaged_pb'
import { BillingService as BillingV1 } from '#proto/billing/v1/billing_pb'
import { BillingService as DeployBillagedV1 } from '#proto/deploy/billaged/v1/billaged_pb'
import type { Recognised } from '../access.ts'
import { batchTooLarge, invalidArgument, notAcknowledged } from '../errors.ts'
import { type Intake, NotAcknowledged } from '../intake/intake.ts'
import type { MarkKind } from '../intake/record.ts'
import { batchFacts, checkId, describeAside, InvalidInput, type MetricsMessage, toUnixNs } from '../intake/validate.ts'
import type { Activity } from '../usage/activity.ts'
import { authorizeIngest, type IngestMode } from './ingest-auth.ts'

// The five calls of VM hosts, the same under three package names. Each is: who speaks for whom, what is wrong with it,
// make it durable, reply.

export interface BillingContext {
  mode: IngestMode
  recognise: (authorization: string | undefined) => Recognised
  intake: Intake
  activity: Activity
  clock: Clock
  maxFutureMs: number
  maxPastMs: number
}

export const samplesPerBatchMax = 100_000
const vmsPerHeartbeatMax = 100_000

export function billingRoutes(context: BillingContext): (router: ConnectRouter) => void {
  const implementation = billingService(context)
  return router => {
    for (const service of [BillingV1, DeployBillagedV1, BillagedV1]) router.service(service, implementation)
  }
}

interface BatchMessage {
  vmId: string
  customerId: string
  metrics: MetricsMessage[]
}

function billingService(o: BillingContext) {
  const authorize = (context: HandlerContext, customerId: string | null, isHeartbeat = false) =>
    authorizeIngest(o.mode, o.recognise, {
      service: context.service.typeName,
      isHeartbeat,
      customerId,
      headers: context.requestHeader,
      isCertified: context.values.get(callKey).isCertified,
    })

  const mark = async (
    customerId: string | null,
    vm: string,
    kind: MarkKind,
    atNs: bigint,
    untilNs: bigint | null = null,
  ) => {
    const vmId = checkId(vm, 'vm_id')
    await o.intake.acknowledge([{ kind: 'mark', customerId, vmId, mark: kind, atNs, untilNs }])
    o.activity.marked(vmId, kind)
    return { success: true }
  }

  return {
    sendMetricsBatch: (req: BatchMessage, context: HandlerContext) =>
      named(async () => {
        const customer = authorize(context, req.customerId)
        if (req.metrics.length === 0) return { success: false, message: 'no metrics provided' }
        if (req.metrics.length > samplesPerBatchMax) throw batchTooLarge(req.metrics.length, samplesPerBatchMax)
        const vmId = checkId(req.vmId, 'vm_id')
        const customerId = checkId(customer ?? '', 'customer_id')
        const window = {
          nowNs: nowNs(o.clock),
          maxFutureNs: BigInt(o.maxFutureMs) * 1_000_000n,
          maxPastNs: BigInt(o.maxPastMs) * 1_000_000n,
        }
        const { facts, accepted, aside } = batchFacts(customerId, vmId, req.metrics, window)
        await o.intake.acknowledge(facts)
        o.intake.countSamples(accepted, aside)
        o.activity.read(vmId)
        context.responseHeader.set('billaged-accepted', String(accepted))
        if (aside.size > 0) context.responseHeader.set('billaged-set-aside', describeAside(aside))
        return { success: true, message: `processed ${req.metrics.length} metrics` }
      }),

    sendHeartbeat: (req: { instanceId: string; activeVms: string[] }, context: HandlerContext) =>
      named(async () => {
        authorize(context, null, true)
        const instanceId = checkId(req.instanceId, 'instance_id')
        if (req.activeVms.length > vmsPerHeartbeatMax)
          throw new InvalidInput(`active_vms has ${req.activeVms.length} entries; at most ${vmsPerHeartbeatMax}`)
        const vmIds = [...new Set(req.activeVms.map((vm, i) => checkId(vm, `active_vms[${i}]`)))]
        await o.intake.acknowledge([{ kind: 'heartbeat', instanceId, atNs: nowNs(o.clock), vmIds }])
        o.activity.listed(vmIds)
        return { success: true }
      }),

    notifyVmStarted: (req: { vmId: string; customerId: string; startTime: bigint }, context: HandlerContext) =>
      named(async () => {
        const customerId = checkId(authorize(context, req.customerId) ?? '', 'customer_id')
        return mark(customerId, req.vmId, 'start', toUnixNs(req.startTime, 'start_time'))
      }),

    notifyVmStopped: (req: { vmId: string; stopTime: bigint }, context: HandlerContext) =>
      named(async () => mark(authorize(context, null), req.vmId, 'stop', toUnixNs(req.stopTime, 'stop_time'))),

    notifyPossibleGap: (req: { vmId: string; lastSent: bigint; resumeTime: bigint }, context: HandlerContext) =>
      named(async () => {
        const customerId = authorize(context, null)
        const untilNs = toUnixNs(req.resumeTime, 'resume_time')
        // A host that never sent anything has no last time; the gap is then a point, and changes nothing.
        const fromNs = req.lastSent === 0n ? untilNs : toUnixNs(req.lastSent, 'last_sent')
        return mark(customerId, req.vmId, 'gap', fromNs, untilNs)
      }),
  }
}

/** Our own refusals become Connect errors; anything else is a bug and stays one. */
async function named<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof InvalidInput) throw invalidArgument(error.message)
    if (error instanceof NotAcknowledged) throw notAcknowledged(error.why)
    throw error
  }
}

import type { ConnectRouter, HandlerContext } from '@connectrpc/connect'
import { callKey } from '#platform/rpc'
import { BillingService as BillagedV1 } from '#proto/billaged/v1/billaged_pb'
import { BillingService as BillingV1 } from '#proto/billing/v1/billing_pb'
import { BillingService as DeployBillagedV1 } from '#proto/deploy/billaged/v1/billaged_pb'
import type { Recognised } from '../access.ts'
import { batchTooLarge, invalidArgument, notAcknowledged, rateLimited } from '../errors.ts'
import { type Intake, NotAcknowledged } from '../intake/intake.ts'
import type { RateLimiter } from '../intake/rate-limit.ts'
import type { ReceiptClock } from '../intake/receipt-clock.ts'
import type { AsideReason, MarkKind } from '../intake/record.ts'
import {
  batchFacts,
  checkId,
  describeAside,
  InvalidInput,
  type MetricsMessage,
  markFacts,
  toUnixNs,
  type Window,
} from '../intake/validate.ts'
import type { Activity } from '../usage/activity.ts'
import { authorizeIngest, type IngestMode } from './ingest-auth.ts'

// The five calls of VM hosts, the same under three package names. Each is: who speaks for whom, what is wrong with it,
// make it durable, reply.

export interface BillingContext {
  mode: IngestMode
  recognise: (authorization: string | undefined) => Recognised
  intake: Intake
  activity: Activity
  receipt: ReceiptClock
  limiter: RateLimiter
  maxFutureMs: number
  maxPastMs: number
}

/** What a call has beside its message, whichever way it came in. */
export interface Sender {
  /** `package.Service` */
  service: string
  header(name: string): string | null
  isCertified: boolean
  /** A detail of the reply. */
  reply(name: string, value: string): void
}

export const samplesPerBatchMax = 100_000
const vmsPerHeartbeatMax = 100_000

export interface BatchMessage {
  vmId: string
  customerId: string
  metrics: MetricsMessage[]
}
export interface HeartbeatMessage {
  instanceId: string
  activeVms: string[]
}
export interface StartMessage {
  vmId: string
  customerId: string
  startTime: bigint
}
export interface StopMessage {
  vmId: string
  stopTime: bigint
}
export interface GapMessage {
  vmId: string
  lastSent: bigint
  resumeTime: bigint
}

/** The five calls, for the generated routes. */
export function billingRoutes(context: BillingContext): (router: ConnectRouter) => void {
  const service = billingService(context)
  const senderOf = (handler: HandlerContext): Sender => ({
    service: handler.service.typeName,
    header: name => handler.requestHeader.get(name),
    isCertified: handler.values.get(callKey).isCertified,
    reply: (name, value) => handler.responseHeader.set(name, value),
  })
  const implementation = {
    sendMetricsBatch: (message: BatchMessage, handler: HandlerContext) =>
      service.sendMetricsBatch(message, senderOf(handler)),
    sendHeartbeat: (message: HeartbeatMessage, handler: HandlerContext) =>
      service.sendHeartbeat(message, senderOf(handler)),
    notifyVmStarted: (message: StartMessage, handler: HandlerContext) =>
      service.notifyVmStarted(message, senderOf(handler)),
    notifyVmStopped: (message: StopMessage, handler: HandlerContext) =>
      service.notifyVmStopped(message, senderOf(handler)),
    notifyPossibleGap: (message: GapMessage, handler: HandlerContext) =>
      service.notifyPossibleGap(message, senderOf(handler)),
  }
  return router => {
    for (const definition of [BillingV1, DeployBillagedV1, BillagedV1]) router.service(definition, implementation)
  }
}

export type BillingCalls = ReturnType<typeof billingService>

export function billingService(o: BillingContext) {
  const authorize = (sender: Sender, customerId: string | null, isHeartbeat = false) =>
    authorizeIngest(o.mode, o.recognise, { ...sender, isHeartbeat, customerId })

  const mark = async (
    sender: Sender,
    customerId: string | null,
    vm: string,
    kind: MarkKind,
    atNs: bigint,
    untilNs: bigint | null = null,
  ) => {
    const vmId = checkId(vm, 'vm_id')
    const { facts, aside } = markFacts({ customerId, vmId, mark: kind, atNs, untilNs }, calls.window())
    await o.intake.acknowledge(facts)
    if (aside.size === 0) o.activity.marked(vmId, kind)
    else {
      o.intake.countAside(aside)
      sender.reply('billaged-set-aside', describeAside(aside))
    }
    return { success: true }
  }

  const calls = {
    /** Whom a batch is for. Throws what the sender lacks. */
    customerOfBatch: (sender: Sender, claimed: string): string =>
      checkId(authorize(sender, claimed) ?? '', 'customer_id'),

    window: (): Window => ({
      nowNs: o.receipt.nowNs(),
      maxFutureNs: BigInt(o.maxFutureMs) * 1_000_000n,
      maxPastNs: BigInt(o.maxPastMs) * 1_000_000n,
    }),

    mustBeBelowLimit(customerId: string, samples: number) {
      const waitS = o.limiter.take(customerId, samples)
      if (waitS > 0) throw rateLimited(customerId, waitS)
    },

    /** After a batch is durable. */
    received(customerId: string, vmId: string, accepted: number, aside: ReadonlyMap<AsideReason, number>) {
      o.intake.countSamples({ customerId, vmId }, accepted, aside)
      o.activity.read(vmId)
    },

    sendMetricsBatch: (req: BatchMessage, sender: Sender) =>
      named(async () => {
        const customer = authorize(sender, req.customerId)
        if (req.metrics.length === 0) return { success: false, message: 'no metrics provided' }
        if (req.metrics.length > samplesPerBatchMax) throw batchTooLarge(req.metrics.length, samplesPerBatchMax)
        const vmId = checkId(req.vmId, 'vm_id')
        const customerId = checkId(customer ?? '', 'customer_id')
        const { facts, accepted, aside } = batchFacts(customerId, vmId, req.metrics, calls.window())
        calls.mustBeBelowLimit(customerId, req.metrics.length)
        await o.intake.acknowledge(facts)
        calls.received(customerId, vmId, accepted, aside)
        sender.reply('billaged-accepted', String(accepted))
        if (aside.size > 0) sender.reply('billaged-set-aside', describeAside(aside))
        return { success: true, message: `processed ${req.metrics.length} metrics` }
      }),

    sendHeartbeat: (req: HeartbeatMessage, sender: Sender) =>
      named(async () => {
        authorize(sender, null, true)
        const instanceId = checkId(req.instanceId, 'instance_id')
        if (req.activeVms.length > vmsPerHeartbeatMax)
          throw new InvalidInput(`active_vms has ${req.activeVms.length} entries; at most ${vmsPerHeartbeatMax}`)
        const vmIds = [...new Set(req.activeVms.map((vm, i) => checkId(vm, `active_vms[${i}]`)))]
        await o.intake.acknowledge([{ kind: 'heartbeat', instanceId, atNs: o.receipt.nowNs(), vmIds }])
        o.activity.listed(instanceId, vmIds)
        return { success: true }
      }),

    notifyVmStarted: (req: StartMessage, sender: Sender) =>
      named(async () => {
        const customerId = checkId(authorize(sender, req.customerId) ?? '', 'customer_id')
        return mark(sender, customerId, req.vmId, 'start', toUnixNs(req.startTime, 'start_time'))
      }),

    notifyVmStopped: (req: StopMessage, sender: Sender) =>
      named(async () => mark(sender, authorize(sender, null), req.vmId, 'stop', toUnixNs(req.stopTime, 'stop_time'))),

    notifyPossibleGap: (req: GapMessage, sender: Sender) =>
      named(async () => {
        const customerId = authorize(sender, null)
        const untilNs = toUnixNs(req.resumeTime, 'resume_time')
        // A host that never sent anything has no last time; the gap is then a point, and changes nothing.
        const fromNs = req.lastSent === 0n ? untilNs : toUnixNs(req.lastSent, 'last_sent')
        return mark(sender, customerId, req.vmId, 'gap', fromNs, untilNs)
      }),
  }
  return calls
}

/** Our own refusals become Connect errors; anything else is a bug and stays one. */
export async function named<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof InvalidInput) throw invalidArgument(error.message)
    if (error instanceof NotAcknowledged) throw notAcknowledged(error.why)
    throw error
  }
}

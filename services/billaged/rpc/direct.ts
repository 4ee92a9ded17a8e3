import { type DescMessage, fromBinary, fromJsonString, type MessageShape } from '@bufbuild/protobuf'
import type { DirectCall, DirectReply } from '#platform/rpc'
import { exactJsonDecoder } from '#platform/rpc/exact-numbers'
import {
  NotifyPossibleGapRequestSchema,
  NotifyVmStartedRequestSchema,
  NotifyVmStoppedRequestSchema,
  SendHeartbeatRequestSchema,
} from '#proto/billing/v1/billing_pb'
import { type DecodedBatch, decodeBatch } from '../intake/decode-batch.ts'
import { decodeJsonBatch } from '../intake/decode-json-batch.ts'
import { encodeBatch } from '../intake/fast-batch.ts'
import type { Intake } from '../intake/intake.ts'
import type { AsideReason } from '../intake/record.ts'
import { type BillingCalls, named, type Sender, samplesPerBatchMax } from './billing-service.ts'

// The fast way in: plain Connect unary calls of the five procedures. What it does not understand, or what needs more than
// the common case, it leaves to the generated routes, which then see the same bytes; so both answer alike.

export function createDirect(o: { calls: BillingCalls; intake: Intake }) {
  return (call: DirectCall): Promise<DirectReply> | null => {
    const slash = call.procedure.lastIndexOf('/')
    const headers: string[] = []
    const sender: Sender = {
      service: call.procedure.slice(1, slash),
      header: call.header,
      isCertified: call.isCertified,
      reply: (name, value) => void headers.push(name, value),
    }
    switch (call.procedure.slice(slash + 1)) {
      case 'SendMetricsBatch':
        return sendBatch(o, call, sender, headers)
      case 'SendHeartbeat':
        return simple(call, SendHeartbeatRequestSchema, message => o.calls.sendHeartbeat(message, sender), headers)
      case 'NotifyVmStarted':
        return simple(call, NotifyVmStartedRequestSchema, message => o.calls.notifyVmStarted(message, sender), headers)
      case 'NotifyVmStopped':
        return simple(call, NotifyVmStoppedRequestSchema, message => o.calls.notifyVmStopped(message, sender), headers)
      case 'NotifyPossibleGap':
        return simple(
          call,
          NotifyPossibleGapRequestSchema,
          message => o.calls.notifyPossibleGap(message, sender),
          headers,
        )
      default:
        return null
    }
  }
}

function sendBatch(
  { calls, intake }: { calls: BillingCalls; intake: Intake },
  call: DirectCall,
  sender: Sender,
  headers: string[],
): Promise<DirectReply> | null {
  const batch = call.isBinary ? decodeBatch(call.body, samplesPerBatchMax) : decodeJson(call.body)
  if (batch === null) return null
  // Synchronous up to the record: the columns belong to the next request from then on.
  const { vmId, columns } = batch
  const { count } = columns
  let customerId: string
  try {
    customerId = calls.customerOfBatch(sender, batch.customerId)
  } catch (error) {
    return named(() => Promise.reject(error))
  }
  const record = encodeBatch(customerId, vmId, columns, calls.window())
  if (record === null) return null
  return named(async () => {
    calls.mustBeBelowLimit(customerId, count)
    await intake.acknowledgeRecord(record)
    calls.received(customerId, vmId, count, nothingAside)
    headers.push('billaged-accepted', String(count))
    return { body: call.isBinary ? processedProto(count) : processedJson(count), headers }
  })
}

const nothingAside: ReadonlyMap<AsideReason, number> = new Map()

function decodeJson(body: Buffer): DecodedBatch | null {
  try {
    return decodeJsonBatch(JSON.parse(exactJsonDecoder.decode(body)), samplesPerBatchMax)
  } catch {
    return null
  }
}

/** A call whose only answer is success. Bytes that do not decode are for the generated route to refuse. */
function simple<D extends DescMessage>(
  call: DirectCall,
  schema: D,
  answer: (message: MessageShape<D>) => Promise<{ success: boolean }>,
  headers: string[],
): Promise<DirectReply> | null {
  let message: MessageShape<D>
  try {
    message = call.isBinary
      ? fromBinary(schema, call.body)
      : fromJsonString(schema, exactJsonDecoder.decode(call.body), { ignoreUnknownFields: true })
  } catch {
    return null
  }
  return answer(message).then(() => ({ body: call.isBinary ? successProto : '{"success":true}', headers }))
}

const successProto = Buffer.of(0x08, 0x01)

const processedJson = (count: number) => `{"success":true,"message":"processed ${count} metrics"}`

function processedProto(count: number): Buffer {
  const text = `processed ${count} metrics`
  return Buffer.concat([Buffer.of(0x08, 0x01, 0x12, text.length), Buffer.from(text)])
}

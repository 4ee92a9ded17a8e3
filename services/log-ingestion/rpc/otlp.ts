// LogsService/Export: OpenTelemetry's logs by gRPC, gRPC-web or Connect's binary form, on the way that HTTP takes too.

import { Buffer } from 'node:buffer'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect'
import { callKey } from '#platform/rpc'
import {
  ExportLogsServiceRequestSchema,
  ExportLogsServiceResponseSchema,
  LogsService,
} from '#proto/opentelemetry/proto/collector/logs/v1/logs_service_pb'
import type { Intake } from '../http/intake.ts'
import { exportLogs } from '../protocols/otlp.ts'
import type { Answer, IntakeRoute } from '../protocols/protocol.ts'
import { encodeFields } from '../wire/protobuf.ts'

export const logsServicePath = `/${LogsService.typeName}/`

/** Faults as plain text: they become the status of the call. */
const route: IntakeRoute = {
  ...exportLogs(`${logsServicePath}Export`),
  fault: ({ status, detail }) => ({ status, body: detail }),
}

export function otlpRoutes(intake: Intake): (router: ConnectRouter) => void {
  return router => {
    router.service(LogsService, {
      async export(request, context) {
        const body = Buffer.from(toBinary(ExportLogsServiceRequestSchema, request))
        const answer = await intake.message(route, targetOf(context), body, context.values.get(callKey).remoteAddress)
        if (answer.status !== 200) throw errorOf(answer)
        for (const [name, value] of Object.entries(answer.headers ?? {}))
          if (name.startsWith('X-')) context.responseHeader.set(name, value)
        return fromBinary(ExportLogsServiceResponseSchema, Buffer.from(answer.body))
      },
    })
  }
}

function targetOf({ requestHeader }: HandlerContext) {
  const headers = { ...Object.fromEntries(requestHeader), 'content-type': 'application/x-protobuf' }
  return { method: 'POST', path: `${logsServicePath}Export`, parameters: new URLSearchParams(), headers }
}

const codes: Readonly<Record<number, Code>> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  413: Code.InvalidArgument,
  415: Code.InvalidArgument,
  422: Code.AlreadyExists,
  // Exporters send again what was unavailable.
  429: Code.Unavailable,
}

function errorOf({ status, body, headers }: Answer): ConnectError {
  const error = new ConnectError(String(body), codes[status] ?? Code.Internal)
  const retryAfterS = headers?.['Retry-After']
  if (retryAfterS === undefined) return error
  error.metadata.set('retry-after', retryAfterS)
  // RetryInfo: retry_delay=1 Duration{seconds=1}
  const value = encodeFields([[1, encodeFields([[1, BigInt(retryAfterS)]])]])
  error.details.push({ type: 'google.rpc.RetryInfo', value })
  return error
}

// Following a build's log, over RPC and over HTTP alike.

import type { HandlerContext } from '@connectrpc/connect'
import { isUnavailable } from '#platform/postgres'
import { sleep } from '#platform/time'
import type { StreamBuildLogsRequest, StreamBuildLogsResponse } from '#proto/builder/v1/builder_pb'
import type { FeedPage } from '../queue/log-feed.ts'
import { findBuild } from '../store/builds.ts'
import type { StoredLine } from '../store/logs.ts'
import { requireBuild, requireTenant } from './builds.ts'
import type { Context } from './context.ts'
import { logMessage } from './messages.ts'
import { asRpcError } from './refusals.ts'

/** How long a follower waits for a database that is away, and how often it looks. */
const awayMsMax = 60_000
const retryEveryMs = 500

/** Proxies cut connections that say nothing for a minute. */
const silenceMsMax = 15_000

export function streamBuildLogs(c: Context) {
  return async function* (
    request: StreamBuildLogsRequest,
    context: HandlerContext,
  ): AsyncGenerator<StreamBuildLogsResponse> {
    const { requestHeader, signal } = context
    try {
      const tenantId = requireTenant(c, 'builds:read', request.tenantId, requestHeader)
      await requireBuild(c, request.buildId, tenantId)
      const after = readCursor(requestHeader.get('x-log-after'))
      for await (const line of followLog(c, request.buildId, { after, follow: request.follow, signal }))
        yield logMessage(line)
    } catch (error) {
      throw asRpcError(error, requestHeader.get('x-tenant-id') ?? '')
    }
  }
}

/** A cursor is the number of the last line its reader has; anything else starts at the beginning. */
export function readCursor(text: string | null | undefined): bigint {
  return text && /^[0-9]{1,18}$/.test(text) ? BigInt(text) : 0n
}

/** Lines after the cursor; with `follow` until the build's last one, otherwise until the newest there is. */
export async function* followLog(
  c: Context,
  buildId: string,
  o: { after: bigint; follow: boolean; signal: AbortSignal },
): AsyncGenerator<StoredLine> {
  let cursor = o.after
  let awaySinceMs: number | undefined
  let quietSinceMs = c.clock.monotonicMs()
  for (;;) {
    let page: FeedPage
    try {
      const patienceMs = Math.max(1, quietSinceMs + silenceMsMax - c.clock.monotonicMs())
      page = await c.feed.next(buildId, cursor, o.follow ? patienceMs : 0, o.signal)
      awaySinceMs = undefined
    } catch (error) {
      // Who follows has time: a database that is back soon is no reason to cut them off.
      awaySinceMs ??= c.clock.monotonicMs()
      if (!o.follow || !isUnavailable(error) || c.clock.monotonicMs() - awaySinceMs > awayMsMax) throw error
      await sleep(retryEveryMs, o.signal)
      continue
    }
    for (const line of page.lines) {
      cursor = line.seq
      quietSinceMs = c.clock.monotonicMs()
      yield line
    }
    if (page.isDeleted) {
      yield serviceLine(c, cursor, 'info', 'build deleted')
      return
    }
    if (page.isOver) return
    if (page.lines.length > 0) continue
    if (!o.follow) return
    // A change of state alone wakes the feed too.
    if (c.clock.monotonicMs() - quietSinceMs < silenceMsMax) continue
    quietSinceMs = c.clock.monotonicMs()
    const build = await findBuild(c.sql, buildId, null)
    if (build)
      yield serviceLine(c, cursor, 'debug', `still ${build.step || build.state.toLowerCase()}, ${build.progress}%`)
  }
}

/** Said to this reader only: no row, and so no number of its own. */
function serviceLine(c: Context, cursor: bigint, level: StoredLine['level'], message: string): StoredLine {
  return { seq: cursor, atMs: c.clock.now(), level, component: 'scheduler', message }
}

// builder.v1.BuilderService, call by call.

import type { ConnectRouter } from '@connectrpc/connect'
import { BuilderService } from '#proto/builder/v1/builder_pb'
import { cancelBuild, deleteBuild, getBuild, listBuilds } from './builds.ts'
import type { Context } from './context.ts'
import { createBuild } from './create-build.ts'
import { getBuildStats, getTenantQuotas } from './quotas.ts'
import { streamBuildLogs } from './stream-logs.ts'

export function routes(c: Context) {
  return (router: ConnectRouter) => {
    router.service(BuilderService, {
      createBuild: createBuild(c),
      getBuild: getBuild(c),
      listBuilds: listBuilds(c),
      cancelBuild: cancelBuild(c),
      deleteBuild: deleteBuild(c),
      streamBuildLogs: streamBuildLogs(c),
      getTenantQuotas: getTenantQuotas(c),
      getBuildStats: getBuildStats(c),
    })
  }
}

const servicePath = '/builder.v1.BuilderService/'
const otherNames = ['/deploy.builderd.v1.BuilderService/']

/** The same service under another package name: the messages are the same bytes, so only the path differs. */
export function canonicalPath(url: string): string {
  const other = otherNames.find(name => url.startsWith(name))
  return other === undefined ? url : servicePath + url.slice(other.length)
}

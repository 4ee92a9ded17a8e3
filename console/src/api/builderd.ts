import type { Build, BuildList, BuildLogLine } from '../../../services/builderd/api.ts'
import { addressOf, call } from './http.ts'

const service = 'builderd'

export type { Build, BuildLogLine }

export const listBuilds = (o: { tenant?: string; limit: number }, signal?: AbortSignal) =>
  call<BuildList>({ service, path: '/v1/builds', params: { ...o }, signal })

export const logsAddress = (buildId: string) =>
  addressOf({
    service,
    path: `/builder.v1.BuilderService/GetBuildLogs/${encodeURIComponent(buildId)}`,
    params: { follow: 'true' },
  })

export function createBuild(tenant: string, image: string, name: string) {
  return call<{ buildId: string; state: string }>({
    service,
    method: 'POST',
    path: '/builder.v1.BuilderService/CreateBuild',
    headers: { 'x-tenant-id': tenant, 'connect-protocol-version': '1' },
    body: {
      config: {
        tenant: { tenantId: tenant },
        source: { dockerImage: { imageUri: image } },
        target: { microvmRootfs: { initStrategy: 'INIT_STRATEGY_TINI' } },
        strategy: { dockerExtract: {} },
        ...(name ? { buildName: name } : {}),
      },
    },
  })
}

export function cancelBuild(tenant: string, buildId: string) {
  return call<{ success: boolean }>({
    service,
    method: 'POST',
    path: '/builder.v1.BuilderService/CancelBuild',
    headers: { 'x-tenant-id': tenant, 'connect-protocol-version': '1' },
    body: { buildId, tenantId: tenant },
  })
}

// One image build, followed to its end.

import { join } from 'node:path'
import { sleep } from '#platform/time'
import type { Tally } from '../demo.ts'
import { localSourcesDir } from '../plan.ts'
import type { Caller } from './caller.ts'
import { writeSampleLayout } from './sample-layout.ts'

const tenant = 'initech'
/** The image that ships with builderd, put where an operator would put a layout: no registry, no network. */
const sampleImage = 'oci:demo-hello:latest'

export async function buildTraffic(caller: Caller, dataDir: string, ends: AbortSignal): Promise<Tally[]> {
  const counts: Record<string, number> = {}
  await writeSampleLayout(join(localSourcesDir(dataDir), 'demo-hello'))
  const call = <T>(method: string, body: unknown) =>
    caller.post<T>('builderd', `/builder.v1.BuilderService/${method}`, body, { headers: { 'x-tenant-id': tenant } })
  try {
    const { buildId } = await call<{ buildId: string }>('CreateBuild', {
      config: {
        tenant: { tenantId: tenant },
        buildName: 'demo',
        source: { dockerImage: { imageUri: sampleImage } },
        target: { microvmRootfs: { initStrategy: 'INIT_STRATEGY_DIRECT' } },
        strategy: { dockerExtract: {} },
      },
    })
    for (;;) {
      const { build } = await call<{ build: { state: string } }>('GetBuild', { buildId, tenantId: tenant })
      if (/COMPLETED|FAILED|CANCELLED/.test(build.state) || ends.aborted) {
        counts[build.state.replace('BUILD_STATE_', '').toLowerCase()] = 1
        break
      }
      await sleep(200, ends).catch(() => {})
    }
  } catch (error) {
    process.stderr.write(`demo: no build: ${error instanceof Error ? error.message : String(error)}\n`)
  }
  return [{ what: 'image builds', tenant, counts }]
}

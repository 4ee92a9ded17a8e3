// deploy/kubernetes/log-ingestion.yaml against the service: settings it takes, probes it answers, a stop that is given its
// time, and the folder of the image on the volume.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { loadConfig } from '#platform/config'
import { spec } from '../config.ts'
import { startService } from './start.ts'

const deploy = new URL('../../../deploy/', import.meta.url)
const read = (path: string) => readFileSync(new URL(path, deploy), 'utf8')

interface Container {
  env: { name: string; valueFrom: { secretKeyRef: { key: string } } }[]
  volumeMounts: { name: string; mountPath: string }[]
  lifecycle: { preStop: { exec: { command: string[] } } }
  startupProbe: { httpGet: { path: string } }
  livenessProbe: { httpGet: { path: string } }
  readinessProbe: { httpGet: { path: string } }
}

interface Manifest {
  kind: string
  metadata: { name: string }
  data?: Record<string, string>
  stringData?: Record<string, string>
  spec?: {
    serviceName?: string
    template?: {
      spec: { terminationGracePeriodSeconds: number; securityContext: { runAsUser: number }; containers: [Container] }
    }
    volumeClaimTemplates?: { spec: { resources: { requests: { storage: string } } } }[]
  }
}

test('the manifests hold settings the service takes, probes it answers, and time for its stop', async t => {
  const documents = parseAllDocuments(read('kubernetes/log-ingestion.yaml'))
  assert.deepEqual(
    documents.flatMap(document => document.errors),
    [],
  )
  const manifests = documents.map(document => document.toJSON() as Manifest)
  const of = (kind: string) => manifests.find(manifest => manifest.kind === kind)
  const set = of('StatefulSet')?.spec
  assert.ok(manifests.some(({ kind, metadata }) => kind === 'Service' && metadata.name === set?.serviceName))
  const pod = set?.template?.spec
  assert.ok(pod)
  const [container] = pod.containers

  const secrets = of('Secret')?.stringData ?? {}
  const given = Object.fromEntries(
    container.env.map(({ name, valueFrom }) => [name, secrets[valueFrom.secretKeyRef.key] ?? 'missing']),
  )
  assert.deepEqual(Object.values(given).sort(), Object.values(secrets).sort(), 'every secret is used')
  const loaded = loadConfig(spec, { env: { ...of('ConfigMap')?.data, ...given } })
  assert.ok(loaded.ok, loaded.ok ? '' : JSON.stringify(loaded.problems))
  const pauseS = Number(container.lifecycle.preStop.exec.command[1])
  assert.ok(pod.terminationGracePeriodSeconds > pauseS + loaded.config.shutdownTimeoutMs / 1_000 + 10)
  const [volume] = set?.volumeClaimTemplates ?? []
  const volumeGi = Number(/^(\d+)Gi$/.exec(volume?.spec.resources.requests.storage ?? '')?.[1])
  assert.ok(loaded.config.journalBytesMax + loaded.config.journalKeepBytes < volumeGi * 1024 ** 3 * 0.95)

  const image = read('docker/log-ingestion/Dockerfile')
  const [, dir] = /LOG_INGESTION_DATA_DIR=(\S+)/.exec(image) ?? []
  assert.ok(container.volumeMounts.some(({ mountPath }) => mountPath === dir))
  assert.match(image, new RegExp(`^USER ${pod.securityContext.runAsUser}:`, 'm'))

  const s = await startService(t)
  await s.settled()
  for (const { httpGet } of [container.startupProbe, container.livenessProbe, container.readinessProbe])
    assert.equal((await fetch(s.url + httpGet.path)).status, 200, httpGet.path)
})

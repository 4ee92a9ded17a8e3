// The configuration `npm start` runs the collector with: this machine's metrics, kept here, readable here.

import { stringify } from 'yaml'

export interface StarterOptions {
  deviceId: string
  /** An existing folder that only this service writes to. */
  dataDir: string
  /** host:port */
  listenAddr: string
}

/** Text of a YAML file. The same options give the same text, so a caller can tell whether anything changed. */
export function starterConfig({ deviceId, dataDir, listenAddr }: StarterOptions): string {
  const settings = {
    device_id: deviceId,
    // Charts that move while someone looks at them; a device on a mobile link would take the default, 30s.
    collection_interval: '5s',
    storage: { path: `${dataDir.replace(/\/+$/, '')}/metrics.db` },
    health: { listen_addr: listenAddr === '' ? '127.0.0.1:9100' : listenAddr },
  }
  return `# Written by \`npm start\`; edits are overwritten. Settings of your own: METRICS_COLLECTOR_… variables, see the README.\n${stringify(settings)}`
}

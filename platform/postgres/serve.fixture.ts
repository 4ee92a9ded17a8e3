// A process of its own that runs an embedded server in argv[2], says so, and waits to be killed.

import { startEmbedded } from '#platform/postgres'
import { createLog } from '#platform/telemetry'

const log = createLog({ service: 'fixture', level: 'silent', format: 'json' })
const server = await startEmbedded({ dir: process.argv[2] ?? '', log, fsync: false })
process.stdout.write(`${JSON.stringify({ url: server.url, pid: server.pid, uid: process.getuid?.() })}\n`)
setInterval(() => {}, 60_000)

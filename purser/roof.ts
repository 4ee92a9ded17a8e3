// Where everything the processes say goes: files beside the data, log-ingestion, and the terminal or standard output.

import { join } from 'node:path'
import { createLog, type Logger } from '#platform/telemetry'
import { systemClock } from '#platform/time'
import type { Config } from './config.ts'
import { openLogFile } from './log-files.ts'
import type { PlannedService } from './plan.ts'
import { type LogShipper, openLogShipper } from './ship-logs.ts'
import { lineForPeople, type Terminal } from './terminal.ts'

export interface Roof {
  /** The supervisor's own log. */
  log: Logger
  /** One line of a process. */
  line(service: string, line: string): void
  /** Something a person should see: `text` on a terminal, `event` as a log line everywhere. */
  say(text: string, event: { msg: string } & Record<string, unknown>): void
  /** From here on lines go to log-ingestion too, when it is one of the services. */
  shipTo(services: readonly PlannedService[], secret: Buffer): void
  close(): Promise<void>
}

/** Lines kept from before log-ingestion's address is known. */
const earlyLinesMax = 1_000

export function openRoof(config: Config, terminal: Terminal): Roof {
  const isForPeople = terminal.isInteractive || config.logFormat === 'pretty' || config.logFormat === 'text'
  const files = new Map<string, ReturnType<typeof openLogFile>>()
  const early: [service: string, line: string][] = []
  let shipper: LogShipper | undefined

  const line = (service: string, text: string) => {
    const file = files.get(service) ?? openLogFile(join(config.dataDir, 'logs'), service)
    files.set(service, file)
    file.write(text)
    const shown = isForPeople ? lineForPeople(text, terminal) : asJson(service, text)
    if (shown !== undefined) terminal.print(shown)
    // log-ingestion writes its own lines to its own journal; sending them here would double them.
    if (service === 'log-ingestion') return
    if (shipper) shipper.add(service, text)
    else if (early.length < earlyLinesMax) early.push([service, text])
  }
  const log = createLog({
    service: 'purser',
    level: config.logLevel,
    format: 'json',
    destination: { write: text => line('purser', text.trimEnd()) },
  })
  return {
    log,
    line,
    say(text, { msg, ...fields }) {
      if (isForPeople) terminal.print(text)
      log.info(fields, msg)
    },
    shipTo(services, secret) {
      const logs = services.find(service => service.name === 'log-ingestion')
      if (!logs) return
      shipper = openLogShipper({ url: logs.url, secret, clock: systemClock })
      for (const [service, text] of early.splice(0)) shipper.add(service, text)
    },
    async close() {
      await shipper?.close(2_000)
      shipper = undefined
      for (const file of files.values()) file.close()
    },
  }
}

/** What is not one of our lines (a crash report of the runtime, a warning) becomes one. */
function asJson(service: string, text: string): string {
  if (text.startsWith('{')) return text
  return JSON.stringify({ level: 'ERROR', time: new Date().toISOString(), service, msg: text })
}

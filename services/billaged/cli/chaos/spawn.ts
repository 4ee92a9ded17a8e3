import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface Spawned {
  server: string
  key: string
  /** kill -9, then started again at the same address over the same data. */
  crash(): Promise<void>
  stop(): Promise<void>
}

const key = 'chaos-operator-key-of-32-characters'

/** A billaged of our own in a folder of its own. `env` is what it needs of ours: PATH and a database, if given. */
export async function spawnBillaged(
  command: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Spawned> {
  const dir = mkdtempSync(join(tmpdir(), 'billaged-chaos-'))
  const port = String(await freePort())
  const launch = () =>
    listening(
      spawn(command, [], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: {
          ...env,
          LOG_FORMAT: 'json',
          LOG_LEVEL: 'info',
          NODE_NO_WARNINGS: '1',
          BILLAGED_PORT: port,
          BILLAGED_ADDRESS: '127.0.0.1',
          BILLAGED_OTEL_PROMETHEUS_PORT: '0',
          BILLAGED_OTEL_PROMETHEUS_INTERFACE: '127.0.0.1',
          BILLAGED_API_KEY: key,
          BILLAGED_DATA_DIR: dir,
          PURSER_DATA_DIR: dir,
        },
      }),
    )
  let child = await launch()
  const end = (signal: NodeJS.Signals) =>
    new Promise<void>(resolve => {
      if (child.exitCode !== null || child.signalCode !== null) resolve()
      child.once('exit', () => resolve())
      child.kill(signal)
    })
  return {
    server: `127.0.0.1:${port}`,
    key,
    async crash() {
      await end('SIGKILL')
      child = await launch()
    },
    async stop() {
      await end('SIGTERM')
      rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
    },
  }
}

async function listening(child: ChildProcess): Promise<ChildProcess> {
  const { stdout } = child
  if (stdout === null) throw new Error('BUG: stdout is piped')
  const lines: string[] = []
  return new Promise((resolve, reject) => {
    createInterface({ input: stdout })
      .on('line', line => {
        if (line.includes('"msg":"listening"')) resolve(child)
        // What goes wrong in it is part of the outcome.
        if (line.includes('"level":"ERROR"')) process.stderr.write(`${line}\n`)
        lines.push(line)
        if (lines.length > 5) lines.shift()
      })
      .once('close', () => reject(new Error(`billaged did not start:\n${lines.join('\n')}`)))
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0))
    })
  })
}

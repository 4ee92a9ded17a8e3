// Programs of other people that tests use as judges. They come from Debian packages, listed in ../test-packages.txt.

import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'

export const run = promisify(execFile)

/** Skips the test, loudly, when a program is missing; a run that skips has not proved what the test is for. */
export function requireTools(t: TestContext, ...tools: readonly string[]): boolean {
  const missing = tools.filter(tool => !isInstalled(tool))
  if (missing.length === 0) return true
  const message = `NOT TESTED: ${missing.join(', ')} not installed (apt-get install -y $(cat services/builderd/test-packages.txt))`
  process.stderr.write(`${t.name}: ${message}\n`)
  t.skip(message)
  return false
}

function isInstalled(tool: string): boolean {
  try {
    execFileSync('which', [tool], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'builderd-test-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Debian's docker-registry on a free loopback port. @returns host:port */
export async function startRegistry(t: TestContext): Promise<string> {
  const directory = temporaryDirectory(t)
  const config = join(directory, 'config.yml')
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: ${directory}/data}}\nhttp: {addr: "127.0.0.1:0"}\n`,
  )
  const registry = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.after(async () => {
    if (registry.exitCode !== null) return
    registry.kill('SIGKILL')
    await once(registry, 'exit')
  })
  for (const stream of [registry.stdout, registry.stderr])
    createInterface({ input: stream }).on('line', line => {
      const address = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1]
      if (address !== undefined) registry.emit('address', address)
    })
  const [address]: string[] = await once(registry, 'address', { signal: AbortSignal.timeout(60_000) })
  return address ?? ''
}

/** Pushes a layout's image with skopeo, so that what we pull was written by someone else. */
export async function push(layout: string, tag: string, target: string): Promise<void> {
  const flags = ['--insecure-policy', 'copy', '--dest-tls-verify=false', '--preserve-digests', '--quiet']
  await run('skopeo', [...flags, `oci:${layout}:${tag}`, `docker://${target}`])
}

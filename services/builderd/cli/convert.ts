// builderd convert: an image to a file in one go, without server, database or root.

import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import type { Command } from '#platform/lifecycle'
import type { Job, JobSource } from '../build/job.ts'
import { runBuild } from '../build/pipeline.ts'
import type { Config } from '../config.ts'
import { BuildError, FieldError } from '../errors.ts'
import { hostPlatform, parsePlatform } from '../images/platform.ts'
import { isHost, parseReference } from '../images/reference.ts'
import { noOverrides } from '../images/runtime.ts'
import type { Credentials } from '../registry/auth.ts'
import { parseFlags, UsageError } from './flags.ts'
import { formatBytes, formatSeconds } from './format.ts'

const usage = `Usage: builderd convert REF -o FILE [flags]
       builderd convert --sample -o FILE

REF is an image such as alpine:3.20, or oci:PATH[:TAG] for an OCI layout on this machine.

  -o, --output FILE        where the root file system goes
  --format tar             tar is the only format for now
  --platform linux/ARCH    default: this machine's
  --init tini|direct|custom
  --username NAME          with --password-stdin
  --insecure-registry H:P  plain HTTP, private address allowed; may be given several times
  --cache-dir DIR          default: ~/.cache/purser/builderd
  --json                   the result as JSON on stdout
`

const options = {
  output: { type: 'string', short: 'o' },
  format: { type: 'string', default: 'tar' },
  platform: { type: 'string' },
  init: { type: 'string', default: 'tini' },
  sample: { type: 'boolean', default: false },
  username: { type: 'string' },
  'password-stdin': { type: 'boolean', default: false },
  'insecure-registry': { type: 'string', multiple: true, default: [] as string[] },
  'cache-dir': { type: 'string' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

export const convert: Command<Config> = {
  summary: 'REF -o FILE: an image to a root file system, without server (see convert --help)',
  async run(args, { config, base }) {
    try {
      const { values, positionals } = parseFlags(args, options)
      if (values.help) {
        process.stdout.write(usage)
        return 0
      }
      const output = values.output
      if (output === undefined) throw new UsageError('-o FILE is missing: where should the root file system go?')
      if (values.format !== 'tar')
        throw new UsageError(`--format ${values.format} is not there yet; tar is the only format for now`)
      const [reference, ...more] = positionals
      if (more.length > 0 || (reference === undefined) !== values.sample)
        throw new UsageError('give one image, or --sample')

      const cacheDir = values['cache-dir'] ?? join(homedir(), '.cache', 'purser', 'builderd')
      await mkdir(cacheDir, { recursive: true, mode: 0o700 })
      // Beside the target, so that the finished file moves there in one step.
      const scratchDir = await mkdtemp(join(dirname(resolve(output)), `.${basename(output)}-`))
      try {
        const insecure = values['insecure-registry'].filter(isHost)
        const credentials = await readCredentials(values)
        const job: Job = {
          source: reference === undefined ? { kind: 'sample' } : sourceOf(reference, config, credentials),
          originalImage: reference ?? 'sample',
          platform:
            values.platform === undefined ? hostPlatform(process.arch) : parsePlatform(values.platform, '--platform'),
          runtime: noOverrides,
          initStrategy: strategyOf(values.init),
          ...(config.initBinary === undefined ? {} : { initBinary: config.initBinary }),
          optimisation: {
            removeCache: false,
            removeDocs: false,
            stripDebugSymbols: false,
            compressBinaries: false,
            excludePatterns: [],
            preservePaths: [],
          },
          rules: {
            allowedRegistries: undefined,
            insecureRegistries: [...config.insecureRegistries, ...insecure],
            allowedPrivateHosts: config.allowedPrivateHosts,
          },
          imageBytesMax: config.imageBytesMax ?? config.imageGbMax * 1_000_000_000,
          diskBytesMax: 2 ** 43,
          pullTimeoutMs: config.pullTimeoutMs,
          cacheDir,
          scratchDir,
          userAgent: `purser-builderd/${base.version}`,
        }
        await build(job, output, values.json, base.clock)
      } finally {
        await rm(scratchDir, { recursive: true, force: true })
      }
      return 0
    } catch (error) {
      if (error instanceof UsageError || error instanceof FieldError) {
        process.stderr.write(`builderd convert: ${error.message}\nTry builderd convert --help.\n`)
        return 2
      }
      if (error instanceof BuildError) {
        process.stderr.write(`builderd convert: ${error.code}: ${error.message}\n`)
        if (error.code === 'INTERNAL') base.log.error({ err: error.cause }, 'convert failed')
        return 1
      }
      throw error
    }
  },
}

async function build(job: Job, output: string, isJson: boolean, clock: { monotonicMs(): number; now(): number }) {
  const startedMs = clock.monotonicMs()
  const say = (line: string) => process.stderr.write(`  ${line}\n`)
  let stepMs = startedMs
  const result = await runBuild(job, {
    clock,
    signal: new AbortController().signal,
    host: {
      log: line => say(`${line.level === 'warn' ? 'warning: ' : ''}${line.message}`),
      progress() {},
      async step(step, event) {
        if (event === 'started') stepMs = clock.monotonicMs()
        else say(`${step.padEnd(8)} ${formatSeconds(clock.monotonicMs() - stepMs)}`)
      },
      pulled() {},
      pinned: async () => {},
      // The cache is this user's own.
      mayReuse: async () => true,
      have: async () => {},
      reserve: async () => {},
    },
  })
  await rename(join(job.scratchDir, result.file), output)
  if (isJson) process.stdout.write(`${JSON.stringify({ ...result, file: output }, null, 2)}\n`)
  else
    process.stdout.write(
      `${output}: ${formatBytes(result.rootfsBytes)}, sha256 ${result.checksum}, in ${formatSeconds(clock.monotonicMs() - startedMs)}\n`,
    )
}

function sourceOf(reference: string, config: Config, credentials: Credentials | undefined): JobSource {
  const layout = /^oci:(.+?)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?$/.exec(reference)
  if (layout) return { kind: 'layout', root: '/', path: resolve(layout[1] ?? ''), tag: layout[2] ?? 'latest' }
  const ref = parseReference(reference, config.defaultRegistry, 'REF')
  return {
    kind: 'registry',
    registry: ref.registry,
    repository: ref.repository,
    tagsOrDigests: [ref.digest ?? ref.tag ?? 'latest'],
    ...(credentials && { credentials }),
  }
}

function strategyOf(word: string): Job['initStrategy'] {
  if (word === 'tini' || word === 'direct' || word === 'custom') return word
  throw new UsageError(`--init ${word} is not tini, direct or custom`)
}

async function readCredentials(values: {
  username?: string | undefined
  'password-stdin': boolean
}): Promise<Credentials | undefined> {
  if (values.username === undefined) return undefined
  if (!values['password-stdin'])
    throw new UsageError('--username needs --password-stdin; a password never goes on a command line')
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk))
  return {
    username: values.username,
    password: Buffer.concat(chunks)
      .toString('utf8')
      .replace(/\r?\n$/, ''),
    token: '',
  }
}

// Configuration: both spellings of the guide, the environment, and every problem at once.

import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { duration, nearest, type Problem } from '#platform/config'
import {
  branchesNotBuilt,
  type Key,
  keys,
  nestedSourceNames,
  type SourceName,
  sourceNames,
  type Values,
} from './config-keys.ts'

export interface Config extends Values {
  /** Milliseconds by source; a source that is off is not in it. */
  intervalsMs: ReadonlyMap<SourceName, number>
  externalLabels: Readonly<Record<string, string>>
  roots: { procfs: string; sysfs: string; rootfs: string }
  /** Where systemd puts what LoadCredential names. */
  credentialsDir: string | undefined
  warnings: readonly string[]
}

export interface ConfigInput {
  env: Readonly<Record<string, string | undefined>>
  file?: { path: string; text: string }
  /** From the -path.* flags. */
  roots?: Partial<Config['roots']>
}

export type LoadedConfig = { ok: true; config: Config } | { ok: false; problems: Problem[] }

const envPrefix = 'METRICS_COLLECTOR_'

/** Pure: reads nothing but what it is given. */
export function loadConfig({ env, file, roots }: ConfigInput): LoadedConfig {
  const problems: Problem[] = []
  const warnings: string[] = []
  const given = file ? readFile(file, problems) : new Map<string, Given>()
  // A file that cannot be read to its end says nothing about what it lacks.
  const isFileWhole = problems.length === 0
  readEnv(env, given, problems)

  const values: Record<string, unknown> = {}
  for (const [name, entry] of Object.entries<Key<unknown>>(keys)) {
    const found = pick(entry, given, problems)
    if (found) values[name] = parse(entry, found, problems)
    else if (entry.required && isFileWhole)
      problems.push({ name: entry.path, problem: `is required: ${entry.doc} ${mend(entry)}` })
    else if (entry.default !== undefined) values[name] = entry.type.parse(entry.default)
  }
  const config = {
    ...(values as Values), // every key is there: parsed, defaulted, or `problems` is not empty
    intervalsMs: sourceIntervals(given, Number(values.collectionIntervalMs), problems, warnings),
    externalLabels: externalLabels(given, problems),
    credentialsDir: env.CREDENTIALS_DIRECTORY || undefined,
    roots: { procfs: '/proc', sysfs: '/sys', rootfs: '/', ...roots },
    warnings,
  }
  refuseUnknown(given, problems)
  if (problems.length === 0) checkTogether(config, given, problems)
  return problems.length > 0 ? { ok: false, problems } : { ok: true, config }
}

interface Given {
  /** Where it was said: `config.yaml:3:5 remote.timeout`, or the variable. */
  name: string
  text: string
  items?: readonly string[]
  isUsed?: boolean
}

/** A file past this is not a configuration. */
const fileBytesMax = 1024 * 1024

/** Keys and values together; aliases count each time they are used, so a few lines cannot become gigabytes. */
const nodesMax = 20_000

/** Deeper than any key; an alias inside itself ends here. */
const depthMax = 32

function readFile(file: { path: string; text: string }, problems: Problem[]): Map<string, Given> {
  const given = new Map<string, Given>()
  if (file.text.length > fileBytesMax) {
    problems.push({ name: file.path, problem: `has ${file.text.length} characters, at most ${fileBytesMax}` })
    return given
  }
  const lines = new LineCounter()
  const document = parseDocument(file.text, { version: '1.2', uniqueKeys: true, strict: true, lineCounter: lines })
  for (const error of [...document.errors, ...document.warnings]) {
    const at = error.linePos?.[0]
    const where = at ? `${file.path}:${at.line}:${at.col}` : file.path
    problems.push({ name: where, problem: error.message.split('\n')[0]?.replace(/ at line \d+.*$/, '') ?? error.code })
  }
  if (document.errors.length > 0) return given

  let nodes = 0
  const walk = (node: unknown, path: string, depth: number): void => {
    if (++nodes > nodesMax) return
    if (isAlias(node) && depth < depthMax) {
      walk(node.resolve(document), path, depth + 1)
      return
    }
    const name = `${place(file.path, lines, node)} ${path}`.trimEnd()
    if (isScalar(node)) {
      // The text as written, not what YAML makes of it: device_id 007 is a name.
      if (node.value !== null) given.set(path, { name, text: node.source ?? String(node.value) })
    } else if (depth >= depthMax) {
      problems.push({ name, problem: `is nested deeper than ${depthMax} levels` })
    } else if (isSeq(node)) {
      const scalars = node.items.filter(isScalar)
      if (scalars.length === node.items.length) {
        const items = scalars.map(item => item.source ?? String(item.value))
        given.set(path, { name, text: items.join(','), items })
      } else for (const [index, item] of node.items.entries()) walk(item, `${path}[${index}]`, depth + 1)
    } else if (isMap(node)) {
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? (pair.key.source ?? String(pair.key.value)) : ''
        walk(pair.value, path === '' ? key : `${path}.${key}`, depth + 1)
      }
    } else if (node !== null && node !== undefined) problems.push({ name, problem: 'is nothing this file may hold' })
  }
  if (document.contents !== null && !isMap(document.contents))
    problems.push({ name: file.path, problem: 'must be a mapping of keys to values' })
  else walk(document.contents, '', 0)
  if (nodes > nodesMax) problems.push({ name: file.path, problem: `has more than ${nodesMax} nodes, aliases included` })
  return given
}

function place(path: string, lines: LineCounter, node: unknown): string {
  const range = isNodeWithRange(node) ? node.range : undefined
  if (!range) return path
  const { line, col } = lines.linePos(range[0])
  return `${path}:${line}:${col}`
}

function isNodeWithRange(node: unknown): node is Node {
  return isScalar(node) || isMap(node) || isSeq(node)
}

/** Environment beats file, in either spelling. */
function readEnv(env: ConfigInput['env'], given: Map<string, Given>, problems: Problem[]) {
  const byVariable = new Map(knownPaths().map(path => [variableOf(path), path]))
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(envPrefix) || value === undefined || value === '' || name === `${envPrefix}CONFIG`) continue
    const path = byVariable.get(name)
    if (path === undefined) {
      const similar = nearest(name, byVariable.keys())
      problems.push({ name, problem: `is not a setting${similar ? `. Mend: did you mean ${similar}?` : ''}` })
      continue
    }
    const entry = Object.values<Key<unknown>>(keys).find(known => known.path === path || known.also === path)
    if (entry) for (const spelling of [entry.path, entry.also]) if (spelling !== undefined) given.delete(spelling)
    given.set(path, { name, text: value })
  }
  // The platform's own variables are weaker than this service's, wherever those were given.
  const level = env.LOG_LEVEL
  if (level && !given.has('logging.level')) given.set('logging.level', { name: 'LOG_LEVEL', text: level.toLowerCase() })
  const format = { pretty: 'console', text: 'console', json: 'json' }[env.LOG_FORMAT ?? '']
  if (format !== undefined && !given.has('logging.format'))
    given.set('logging.format', { name: 'LOG_FORMAT', text: format })
}

function variableOf(path: string): string {
  return envPrefix + path.toUpperCase().replaceAll('.', '__')
}

function knownPaths(): string[] {
  const scalars = Object.values<Key<unknown>>(keys).flatMap(({ path, also }) =>
    also === undefined ? [path] : [path, also],
  )
  const sources = sourceNames.flatMap(name => [`collectors.${name}.enabled`, `collectors.${name}.interval`])
  return [...scalars, ...sources]
}

/** The value of a key from whichever spelling was used; two spellings may only say the same. */
function pick(entry: Key<unknown>, given: Map<string, Given>, problems: Problem[]): Given | undefined {
  const found = given.get(entry.path)
  const other = entry.also === undefined ? undefined : given.get(entry.also)
  for (const one of [found, other]) if (one) one.isUsed = true
  if (found && other && found.text.trim() !== other.text.trim())
    problems.push({
      name: other.name,
      value: entry.type.redact(other.text),
      problem: `says something else than ${found.name}. Mend: keep one of the two`,
    })
  return found ?? other
}

function parse(entry: Key<unknown>, found: Given, problems: Problem[]): unknown {
  try {
    if (found.items && !entry.type.parseItems) throw new Error('takes one value, not a list')
    const value = found.items ? entry.type.parseItems?.(found.items) : entry.type.parse(found.text)
    if (entry.notBuilt?.(value))
      problems.push({ name: found.name, value: entry.type.redact(found.text), problem: notBuilt })
    return value
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    problems.push({ name: found.name, value: entry.type.redact(found.text), problem: `${message}. ${mend(entry)}` })
    return undefined
  }
}

const notBuilt = 'asks for something this version does not have yet. Mend: remove it, or install a later version'

function mend(entry: Key<unknown>): string {
  const example = entry.default && entry.default.length <= 40 ? `, such as ${entry.default}` : ''
  return `Mend: write ${entry.type.form}${example}`
}

/** `collectors.<name>` of the flat spelling and the `metrics:` list of the nested one. */
function sourceIntervals(
  given: Map<string, Given>,
  standardMs: number,
  problems: Problem[],
  warnings: string[],
): Map<SourceName, number> {
  const intervals = new Map<SourceName, number>(sourceNames.map(name => [name, standardMs]))
  const off = new Set<SourceName>()
  const set = (source: SourceName, enabled: Given | undefined, interval: Given | undefined) => {
    const on = enabled ? parse({ ...keys.journaldEnabled, notBuilt: () => false }, enabled, problems) : true
    if (on === false) off.add(source)
    else off.delete(source)
    if (!interval) return
    const ms = parse({ ...keys.collectionIntervalMs, type: duration.between(1_000, 86_400_000) }, interval, problems)
    if (typeof ms === 'number') intervals.set(source, ms)
  }
  const take = (path: string) => {
    const found = given.get(path)
    if (found) found.isUsed = true
    return found
  }
  for (let i = 0; [...given.keys()].some(path => path.startsWith(`metrics[${i}]`)); i++) {
    const name = take(`metrics[${i}].name`)
    const [enabled, interval] = [take(`metrics[${i}].enabled`), take(`metrics[${i}].interval`)]
    const source = nestedSourceNames[name?.text ?? ''] ?? sourceNames.find(known => known === name?.text)
    if (source) set(source, enabled, interval)
    else if (name) warnings.push(`${name.name}: no such source "${name.text}", skipped`)
    else problems.push({ name: `metrics[${i}]`, problem: 'has no name. Mend: write name: cpu.usage' })
  }
  for (const source of sourceNames) {
    const [enabled, interval] = [take(`collectors.${source}.enabled`), take(`collectors.${source}.interval`)]
    if (enabled || interval) set(source, enabled, interval)
  }
  for (const source of off) intervals.delete(source)
  if (intervals.size === 0) problems.push({ name: 'collectors', problem: 'are all off. Mend: leave at least one on' })
  return intervals
}

function externalLabels(given: Map<string, Given>, problems: Problem[]): Record<string, string> {
  const labels: Record<string, string> = {}
  for (const [path, found] of given) {
    if (!path.startsWith('external_labels.')) continue
    found.isUsed = true
    const name = path.slice('external_labels.'.length)
    if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) || name === 'device_id' || name.startsWith('__'))
      problems.push({
        name: found.name,
        problem:
          'is not a name for an external label. Mend: letters, digits and _, not device_id and not starting with __',
      })
    else labels[name] = found.text
  }
  return labels
}

function refuseUnknown(given: Map<string, Given>, problems: Problem[]) {
  const known = [...knownPaths(), 'external_labels', 'metrics']
  for (const [path, found] of given) {
    if (found.isUsed || known.includes(path)) continue
    if (path === 'metrics' && found.items?.length === 0) continue
    if (
      branchesNotBuilt.some(branch => path === branch || path.startsWith(`${branch}.`) || path.startsWith(`${branch}[`))
    )
      problems.push({ name: found.name, problem: notBuilt })
    else {
      const similar = nearest(path, known) ?? nearest(path.split('.').at(-1) ?? '', known)
      problems.push({
        name: found.name,
        problem: `is not a known key${similar ? `. Mend: did you mean ${similar}?` : ''}`,
      })
    }
  }
}

/** Rules across keys, looked at when every key by itself is right. */
function checkTogether(config: Config, given: Map<string, Given>, problems: Problem[]) {
  const at = (path: string) => given.get(path)?.name ?? path
  const { remoteUrl, remoteEnabled, remoteChunkSize, remoteBatchSize } = config
  if (remoteEnabled === true && remoteUrl === undefined)
    problems.push({ name: at('remote.enabled'), problem: 'is true, but there is no URL. Mend: set remote.url' })
  if (config.remoteAuthToken !== undefined && config.remoteAuthTokenFile !== undefined)
    problems.push({
      name: at('remote.auth_token'),
      problem: 'and remote.auth_token_file are both given. Mend: keep the file',
    })
  if (remoteChunkSize !== 'auto' && remoteChunkSize > remoteBatchSize)
    problems.push({
      name: at('remote.chunk_size'),
      value: String(remoteChunkSize),
      problem: `is larger than remote.batch_size, ${remoteBatchSize}. Mend: a chunk is part of a batch`,
    })
  if (
    remoteUrl !== undefined &&
    /\/(api\/v1\/(write|push)|v1\/metrics|opentelemetry\/)/.test(new URL(remoteUrl).pathname)
  )
    problems.push({
      name: at('remote.url'),
      problem:
        'is a remote-write or OTLP endpoint, which this version does not speak. Mend: use VictoriaMetrics’s /api/v1/import',
    })
}

/** One line per problem: where, what, the value as given. */
export function formatConfigProblems(problems: readonly Problem[]): string {
  return problems
    .map(({ name, problem, value }) => {
      const [what, how] = problem.split(/\. Mend: /)
      const mended = how === undefined ? '' : `. Mend: ${how}`
      return `${name}: ${what}${value === undefined ? '' : ` (got ${JSON.stringify(value)})`}${mended}`
    })
    .join('\n')
}

/** `path: value` lines of everything in effect, secrets as `***`. */
export function printConfig(config: Config): string {
  const lines = Object.entries<Key<unknown>>(keys).map(([name, entry]) => {
    const value = Object.entries(config).find(([field]) => field === name)?.[1]
    return `${entry.path}: ${value === undefined ? '' : entry.type.print(value)}`.trimEnd()
  })
  const sources = sourceNames.map(name => {
    const intervalMs = config.intervalsMs.get(name)
    return intervalMs === undefined
      ? `collectors.${name}.enabled: false`
      : `collectors.${name}.interval: ${duration.print(intervalMs)}`
  })
  const labels = Object.entries(config.externalLabels).map(([name, value]) => `external_labels.${name}: ${value}`)
  return [...lines, ...sources, ...labels].join('\n')
}

/** The reference table of the docs, in Markdown. */
export function configReference(): string {
  const rows = Object.values<Key<unknown>>(keys).map(entry => {
    const spellings = [entry.path, ...(entry.also === undefined ? [] : [entry.also])].map(path => `\`${path}\``)
    const standard = entry.required ? '**required**' : entry.default ? `\`${entry.default}\`` : '–'
    const cell = [...spellings, `\`${variableOf(entry.path)}\``].join('<br>')
    return `| ${cell} | ${standard} | ${entry.type.form} | ${entry.doc} |`.replaceAll(/(?<=\S)\|(?=[a-z])/g, '\\|')
  })
  const sources = `| \`collectors.<name>.enabled\`<br>\`collectors.<name>.interval\` | \`true\`, \`collection_interval\` | true or false, duration ≥ 1s | One source: ${sourceNames.join(', ')}. |`
  const labels = '| `external_labels.<name>` | – | text | A label of every series beside `device_id`. |'
  return ['| key, variable | default | form | meaning |', '|---|---|---|---|', ...rows, sources, labels].join('\n')
}

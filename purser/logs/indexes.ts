// `purser logs index [fast|compat]`: the indexes of the guide's table, shown or changed while the service runs.

import { formatProblems, loadConfig } from '#platform/config'
import { openSql } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { databaseUrlOf, spec } from '../../services/log-ingestion/config.ts'
import { throughPooler } from '../../services/log-ingestion/store/pooler.ts'
import { changeIndexes, type IndexInfo, listIndexes } from '../../services/log-ingestion/store/rows/index-profile.ts'
import { attachLogsTable } from '../../services/log-ingestion/store/rows/logs-table.ts'
import { openTerminal, table } from '../terminal.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, CommandFailed, Misuse } from './main.ts'

export async function indexes(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, { json: { type: 'boolean' } })
  const [profile] = words
  if (words.length > 1 || (profile !== undefined && profile !== 'fast' && profile !== 'compat'))
    throw new Misuse('try: purser logs index, purser logs index fast, or purser logs index compat')
  const loaded = loadConfig(spec, { env })
  if (!loaded.ok) throw new CommandFailed(formatProblems('log-ingestion', loaded.problems))
  const url = databaseUrlOf(loaded.config)
  if (url === undefined)
    throw new CommandFailed('say which database: LOG_INGESTION_DATABASE_URL, PURSER_DATABASE_URL or LOG_INGESTION_DB_*')
  const log = createLog({ service: 'index', level: 'silent', format: 'json' })
  const sql = openSql({
    url: await throughPooler(url, log),
    max: 2,
    applicationName: 'log-ingestion index',
    statementTimeoutMs: 0,
    log,
  })
  try {
    if (profile !== undefined) {
      const logsTable = await attachLogsTable(sql, { indexProfile: profile, log })
      for await (const done of changeIndexes(sql, logsTable, profile)) process.stderr.write(`${done}\n`)
    }
    show(await listIndexes(sql), values.json === true)
    return 0
  } catch (error) {
    throw new CommandFailed(error instanceof Error ? error.message : String(error))
  } finally {
    await sql.end({ timeout: 2 })
  }
}

function show(indexes: readonly IndexInfo[], isJson: boolean): void {
  const lines = indexes.map(({ name, definition, bytes }) => ({ name, bytes: String(bytes), definition }))
  if (isJson) process.stdout.write(`${JSON.stringify({ indexes: lines }, null, 2)}\n`)
  else
    openTerminal().print(
      table(
        ['INDEX', 'BYTES', 'DEFINITION'],
        lines.map(({ name, bytes, definition }) => [name, bytes, definition.replace(/^.* USING /, '')]),
      ),
    )
}

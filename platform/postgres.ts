// PostgreSQL for every service: one import for connecting, embedding, migrating and writing in bulk. The parts live in
// postgres/, one file per concern.

export { arrayLiteral } from './postgres/arrays.ts'
export { type CopyInput, type CopyValue, copyBinary, copyRows, type Json } from './postgres/copy.ts'
export { copyOut } from './postgres/copy-out.ts'
export {
  type EmbeddedOptions,
  type EmbeddedPostgres,
  resolveDatabase,
  startEmbedded,
} from './postgres/embedded.ts'
export { errorCode, isDataError, isUnavailable, UnstorableValue } from './postgres/errors.ts'
export { type MigrateOptions, migrate } from './postgres/migrate.ts'
export { subscribe } from './postgres/notify.ts'
export { createSilence, type Silence } from './postgres/silence.ts'
export { type OpenSqlOptions, openSql, type Queryable, type Sql, type Tx } from './postgres/sql.ts'
export { describeAddress, parseDatabaseUrl, socketUrl, withDatabase } from './postgres/url.ts'

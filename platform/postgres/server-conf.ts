// The server's configuration, written at each start so that an update of the program reaches old data folders.

export interface ServerConf {
  socketDir: string
  port: number
  hbaFile: string
  /** Off only where the data may be lost with the machine: tests. */
  fsync: boolean
}

/** Only the socket, and whoever got to it past its folder (see folders.ts). Replication is for pg_basebackup. */
export const hbaConf = `local all all trust
local replication all trust
`

/** Operators tune in local.conf beside this file; what keeps the server closed comes after it and wins. */
export function serverConf({ socketDir, port, hbaFile, fsync }: ServerConf): string {
  return `# Written at every start. Put settings of your own into local.conf in this folder.

# Sized for a small machine that runs five services beside it.
shared_buffers = 64MB
max_connections = 60
work_mem = 8MB
maintenance_work_mem = 64MB
max_wal_size = 512MB
min_wal_size = 64MB
random_page_cost = 1.1
effective_io_concurrency = 16
io_workers = 1
autovacuum_max_workers = 2
# Compiling a plan costs more than our short queries take.
jit = off

# 'minimal' would save a little and rule out a backup while running (pg_backup_start, pg_basebackup).
wal_level = replica
max_wal_senders = 2
max_replication_slots = 0
max_logical_replication_workers = 0

# Errors go to the client that caused them and may quote its data; the log is for the server's own affairs.
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_line_prefix = ''
log_checkpoints = off
log_destination = 'stderr'
logging_collector = off

timezone = 'UTC'
log_timezone = 'UTC'
# A client that dies inside a transaction must not hold back vacuum for ever.
idle_in_transaction_session_timeout = '5min'
${fsync ? '' : forTests}
include_if_exists = 'local.conf'

listen_addresses = ''
port = ${port}
unix_socket_directories = ${quoted(`"${socketDir.replaceAll('"', '""')}"`)}
unix_socket_permissions = 0700
hba_file = ${quoted(hbaFile)}
`
}

/** One server for all test files that run at once, and for services with two or three replicas in each. */
const forTests = `fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 400
`

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

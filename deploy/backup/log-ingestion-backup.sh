#!/bin/sh
# Backs up the logs database, and keeps 30 days. For cron, as a user who may read the database (postgres):
#   15 2 * * *  /opt/log-ingestion/bin/log-ingestion-backup.sh
# Restore with:  log-ingestion-backup.sh restore FILE   (wraps TimescaleDB's pre- and post-restore calls when it is there)
#
# DATABASE, BACKUP_DIR and KEEP_DAYS may be set; the server is where PGHOST, PGPORT, PGUSER and ~/.pgpass say.
set -eu
DATABASE=${DATABASE:-logs}
BACKUP_DIR=${BACKUP_DIR:-/var/backups/log-ingestion}
KEEP_DAYS=${KEEP_DAYS:-30}

has_timescale() {
  [ "$(psql -XAtq -d "$DATABASE" -c "select count(*) from pg_extension where extname = 'timescaledb'")" = 1 ]
}

backup() {
  umask 077
  mkdir -p "$BACKUP_DIR"
  file=$BACKUP_DIR/backup-$(date +%Y%m%d-%H%M%S).sql.gz
  # A pipe's status is its last command's: a dump that broke off must not look like a backup.
  pg_dump -d "$DATABASE" -f "$file.part.sql"
  gzip -c "$file.part.sql" > "$file.part"
  rm -f "$file.part.sql"
  mv "$file.part" "$file"
  find "$BACKUP_DIR" -name 'backup-*.sql.gz' -mtime +"$KEEP_DAYS" -delete
  find "$BACKUP_DIR" -name 'backup-*.part*' -mtime +1 -delete
  echo "$file"
}

restore() {
  gzip -t "$1"
  if has_timescale; then psql -Xq -v ON_ERROR_STOP=1 -d "$DATABASE" -c 'select timescaledb_pre_restore()' > /dev/null; fi
  status=0
  gunzip < "$1" | psql -Xq -v ON_ERROR_STOP=1 -d "$DATABASE" > /dev/null || status=$?
  if has_timescale; then psql -Xq -v ON_ERROR_STOP=1 -d "$DATABASE" -c 'select timescaledb_post_restore()' > /dev/null; fi
  return $status
}

case ${1-backup} in
  backup) backup ;;
  restore)
    [ $# = 2 ] || { echo "usage: $0 restore FILE" >&2; exit 2; }
    restore "$2"
    ;;
  *) echo "usage: $0 [backup | restore FILE]" >&2; exit 2 ;;
esac

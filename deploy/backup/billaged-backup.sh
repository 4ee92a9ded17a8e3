#!/bin/sh
# Backs up billaged: its journal and its database, while it runs, and keeps 30 days. For cron, as root:
#   15 2 * * *  /opt/billaged/bin/billaged-backup.sh
# Restore into an empty database and a data folder without a journal, with billaged stopped:
#   billaged-backup.sh restore FOLDER && systemctl start billaged && billaged verify
#
# DATABASE, DATA_DIR, BACKUP_DIR and KEEP_DAYS may be set; the server is where PGHOST, PGPORT, PGUSER and ~/.pgpass say.
# With the embedded database (a folder postgres in DATA_DIR) everything is files, and billaged has to be stopped for both.
# Several replicas: each one's data folder with its own BACKUP_DIR; DATABASE= (empty) leaves the database to one of them.
# PURSER_SECRET, or the file `secret` of PURSER_DATA_DIR where that is another folder, belongs beside it: receipts are signed with it.
set -eu
DATABASE=${DATABASE-billaged}
DATA_DIR=${DATA_DIR:-/var/lib/billaged}
BACKUP_DIR=${BACKUP_DIR:-/var/backups/billaged}
KEEP_DAYS=${KEEP_DAYS:-30}

fail() {
  echo "$0: $1" >&2
  exit 1
}

is_embedded() { [ -d "$DATA_DIR/postgres" ]; }

backup() {
  [ -d "$DATA_DIR/journal" ] || fail "$DATA_DIR has no journal; set DATA_DIR"
  if is_embedded && find "$DATA_DIR/postgres" -name postmaster.pid | grep -q .; then
    fail "the embedded database runs; stop billaged first"
  fi
  umask 077
  mkdir -p "$BACKUP_DIR"
  folder=$BACKUP_DIR/billaged-$(date +%Y%m%d-%H%M%S)
  mkdir "$folder.part"
  # The journal before the database: what is folded and let go of in between is in the dump, and what is in both counts once.
  # 1: a file changed or went while it was read, which a journal in use does.
  tar -C "$DATA_DIR" -cf "$folder.part/data.tar" . 2> "$folder.part/tar.log" || [ $? = 1 ] || fail "$(cat "$folder.part/tar.log")"
  rm -f "$folder.part/tar.log"
  if ! is_embedded && [ -n "$DATABASE" ]; then
    # A pipe's status is its last command's: a dump that broke off must not look like a backup.
    pg_dump -d "$DATABASE" -f "$folder.part/database.sql"
    gzip "$folder.part/database.sql"
  fi
  mv "$folder.part" "$folder"
  find "$BACKUP_DIR" -mindepth 1 -maxdepth 1 -type d -name 'billaged-*' -mtime +"$KEEP_DAYS" -exec rm -rf {} +
  echo "$folder"
}

restore() {
  [ -f "$1/data.tar" ] || fail "$1 is no backup: it has no data.tar"
  [ ! -e "$DATA_DIR/journal" ] || fail "$DATA_DIR has a journal; move it away first, it may hold what was never backed up"
  if [ -f "$1/database.sql.gz" ]; then
    gzip -t "$1/database.sql.gz"
    tables=$(psql -XAtq -d "$DATABASE" -c "select count(*) from pg_namespace where nspname = 'billaged'")
    [ "$tables" = 0 ] || fail "database $DATABASE has a schema billaged; restore into an empty one"
    gunzip -c "$1/database.sql.gz" > "$1/database.sql.part"
    status=0
    psql -Xq -1 -v ON_ERROR_STOP=1 -d "$DATABASE" -f "$1/database.sql.part" > /dev/null || status=$?
    rm -f "$1/database.sql.part"
    [ $status = 0 ] || exit $status
  fi
  mkdir -p "$DATA_DIR"
  tar -C "$DATA_DIR" -xpf "$1/data.tar"
}

case ${1-backup} in
  backup) backup ;;
  restore)
    [ $# = 2 ] || { echo "usage: $0 restore FOLDER" >&2; exit 2; }
    restore "$2"
    ;;
  *) echo "usage: $0 [backup | restore FOLDER]" >&2; exit 2 ;;
esac

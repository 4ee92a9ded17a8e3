#!/bin/sh
# Installs log-ingestion under systemd as the guide does by hand, with /etc/log-ingestion, which the guide forgets. Run as root from
# the folder deploy/guides/log-ingestion after `npm run build:log-ingestion`. Again is an update; the env file is kept.
# DESTDIR=/some/root installs below it and leaves users and systemd alone.
set -eu
DESTDIR=${DESTDIR-}
here=$(cd "$(dirname "$0")/guides/log-ingestion" && pwd)
cd "$here"
[ -x bin/server ] || { echo "bin/server is missing: npm run build:log-ingestion" >&2; exit 1; }

if [ -z "$DESTDIR" ] && ! id log-ingestion > /dev/null 2>&1; then
  useradd -r -s /bin/false -d /opt/log-ingestion log-ingestion
fi
owned() { if [ -z "$DESTDIR" ]; then chown "$@"; fi; }

mkdir -p "$DESTDIR/opt/log-ingestion/bin" "$DESTDIR/opt/log-ingestion/migrations" "$DESTDIR/etc/log-ingestion" "$DESTDIR/etc/systemd/system"
# Beside, then moved: the running service keeps the file it was started from.
cp bin/server "$DESTDIR/opt/log-ingestion/bin/server.new"
chmod 0755 "$DESTDIR/opt/log-ingestion/bin/server.new"
mv "$DESTDIR/opt/log-ingestion/bin/server.new" "$DESTDIR/opt/log-ingestion/bin/server"
cp ../../backup/log-ingestion-backup.sh "$DESTDIR/opt/log-ingestion/bin/"
chmod 0755 "$DESTDIR/opt/log-ingestion/bin/log-ingestion-backup.sh"
cp migrations/*.sql "$DESTDIR/opt/log-ingestion/migrations/"
cp deploy/log-ingestion.service "$DESTDIR/etc/systemd/system/"
owned -R log-ingestion:log-ingestion /opt/log-ingestion

env=$DESTDIR/etc/log-ingestion/env.conf
if [ ! -e "$env" ]; then
  umask 077
  cat > "$env" <<EOF
# log-ingestion; after a change: systemctl reload log-ingestion (keys, limits, batch), or restart.
LOG_INGESTION_SERVER_HOST=0.0.0.0
LOG_INGESTION_SERVER_PORT=8080
LOG_INGESTION_DB_HOST=localhost
LOG_INGESTION_DB_PORT=5432
LOG_INGESTION_DB_USER=log_ingestion
LOG_INGESTION_DB_PASSWORD=your-secure-password
LOG_INGESTION_DB_NAME=logs
LOG_INGESTION_DB_SSLMODE=prefer
LOG_INGESTION_API_KEYS=$(openssl rand -hex 32)
EOF
fi
owned log-ingestion:log-ingestion "$env"
[ -n "$DESTDIR" ] || systemctl daemon-reload
echo "installed; next: edit $env, then systemctl enable --now log-ingestion"

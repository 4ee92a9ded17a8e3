#!/bin/bash
# Walks the deployment guide's systemd path, in its words and order, in namespaces of its own: /etc is an overlay, /opt and the
# other folders are temporary, the network is a loopback of its own. What is not the guide's is said so in a comment.
#
# Called by guide.test.ts:  unshare --mount --net --pid --fork --mount-proc walk.sh REPOSITORY
set -euo pipefail
repository=$1

step() { echo "=== $1"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
must() { local what=$1; shift; "$@" || fail "$what"; }

# --- the machine -----------------------------------------------------------------------------------------------------
ip link set lo up
ram=/mnt
mount -t tmpfs none "$ram"
mkdir "$ram"/{etc,etc-work,repository,repository-work,srv,stubs}
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$ram/etc,workdir=$ram/etc-work" /etc
mkdir -p /srv/cmd-log
mount -t tmpfs none /srv && mkdir /srv/cmd-log
mount -t overlay overlay -o "lowerdir=$repository,upperdir=$ram/repository,workdir=$ram/repository-work" /srv/cmd-log
chmod 755 /srv/cmd-log "$ram/repository"
for folder in /opt /run /var/log /var/backups /tmp; do mount -t tmpfs -o mode=1777 none "$folder"; done
STUBS=$ram/stubs
chmod 755 "$ram" "$STUBS"
. /srv/cmd-log/services/log-ingestion/test/guide/stubs.sh
rm -f /etc/systemd/system/log-ingestion.service
mkdir -p /run/postgresql /etc/systemd/system && chown postgres /run/postgresql

step 'Database Setup: PostgreSQL runs'
echo postgres > /tmp/password
pg=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
sudo -u postgres "$pg/initdb" -D /tmp/pg -A scram-sha-256 --auth-local=trust --pwfile=/tmp/password -N > /tmp/initdb.log || { cat /tmp/initdb.log; exit 1; }
sudo -u postgres "$pg/pg_ctl" -D /tmp/pg -w -l /tmp/pg.log -o '-c fsync=off' start > /dev/null
cd /srv/cmd-log/deploy/guides/log-ingestion

step 'Create Database and User'
sudo -u postgres psql <<'EOF' 2>&1 | tee /tmp/create.log
CREATE DATABASE logs;
CREATE USER log_ingestion WITH PASSWORD 'your-secure-password';
GRANT ALL PRIVILEGES ON DATABASE logs TO log_ingestion;

-- Enable TimescaleDB extension
\c logs
CREATE EXTENSION IF NOT EXISTS timescaledb;
\q
EOF
grep -q 'GRANT' /tmp/create.log || fail 'the database was not made'
# Without TimescaleDB installed the extension fails, and the table is partitioned by day instead.

step 'Run Migrations'
export PGPASSWORD=your-secure-password
psql -h localhost -U log_ingestion -d logs -v ON_ERROR_STOP=1 -f migrations/001_create_logs_table.sql 2> /tmp/001.log || {
  # From PostgreSQL 15 on the guide's grant does not cover schema public: the file says what to do.
  grep -q 'As postgres, run this file' /tmp/001.log || { cat /tmp/001.log; fail 'no mend was named'; }
}
sudo -u postgres psql -d logs -v ON_ERROR_STOP=1 -f migrations/001_create_logs_table.sql
[ "$(psql -h localhost -U log_ingestion -d logs -Atc "select tableowner from pg_tables where tablename = 'logs'")" = log_ingestion ] || fail 'the table was not handed over'
unset PGPASSWORD

step 'Create application user'
sudo useradd -r -s /bin/false -d /opt/log-ingestion log-ingestion

step 'Build the binary'
# In the place of `go mod download` and `go build …`.
npm run --silent build:log-ingestion

step 'Deploy to server'
# Create application directory
sudo mkdir -p /opt/log-ingestion/bin
sudo mkdir -p /opt/log-ingestion/migrations

# Copy binary
sudo cp bin/server /opt/log-ingestion/bin/
sudo chmod +x /opt/log-ingestion/bin/server

# Copy migrations
sudo cp migrations/*.sql /opt/log-ingestion/migrations/

# Set ownership
sudo chown -R log-ingestion:log-ingestion /opt/log-ingestion

step 'Create environment file'
# The guide forgets the folder; deploy/install-log-ingestion.sh makes it.
sudo mkdir -p /etc/log-ingestion
sudo tee /etc/log-ingestion/env.conf > /dev/null <<EOF
# Server Configuration
LOG_INGESTION_SERVER_HOST=0.0.0.0
LOG_INGESTION_SERVER_PORT=8080

# Database Configuration
LOG_INGESTION_DB_HOST=localhost
LOG_INGESTION_DB_PORT=5432
LOG_INGESTION_DB_USER=log_ingestion
LOG_INGESTION_DB_PASSWORD=your-secure-password
LOG_INGESTION_DB_NAME=logs
LOG_INGESTION_DB_SSLMODE=prefer

# Batch Configuration
LOG_INGESTION_BATCH_SIZE=1000
LOG_INGESTION_BATCH_FLUSH_INTERVAL=5s

# Rate Limiting
LOG_INGESTION_RATELIMIT_ENABLED=true
LOG_INGESTION_RATELIMIT_DEFAULT_RPS=100
LOG_INGESTION_RATELIMIT_BURST=200

# API Keys (comma-separated)
LOG_INGESTION_API_KEYS=your-api-key-1,your-api-key-2
EOF

# Secure the file
sudo chmod 600 /etc/log-ingestion/env.conf
sudo chown log-ingestion:log-ingestion /etc/log-ingestion/env.conf

step 'Install systemd service'
# Copy service file
sudo cp deploy/log-ingestion.service /etc/systemd/system/

# Reload systemd
sudo systemctl daemon-reload

# Enable service
sudo systemctl enable log-ingestion

# Start service
sudo systemctl start log-ingestion

# Check status
sudo systemctl status log-ingestion

step 'Run database migrations'
sudo -u postgres psql -d logs -v ON_ERROR_STOP=1 -f /opt/log-ingestion/migrations/001_create_logs_table.sql

step 'Health Check Endpoint'
curl -sf http://localhost:8080/health | tee /tmp/health.json
curl -sf -H "Accept: text/html" http://localhost:8080/dashboard | grep -q served-by || fail "bin/server has no log screens"
grep -q '"status":"healthy"' /tmp/health.json || fail 'not healthy'
systemd-analyze verify /etc/systemd/system/log-ingestion.service

# --- not in the guide: entries, as an application sends them -----------------------------------------------------------
send() { # KEY COUNT; prints the statuses
  for _ in $(seq "$2"); do
    curl -s -o /dev/null -w '%{http_code}\n' http://localhost:8080/api/v1/logs -H "X-API-Key: $1" \
      -d '{"log":{"timestamp":"'"$(date -u +%FT%TZ)"'","service":"shop","level":"info","message":"hello '"$RANDOM"'"}}'
  done | sort | uniq -c | tr -s ' '
}
stored() { psql -U postgres -d logs -Atc "select count(*) from logs where service = 'shop'"; }
step 'Entries are taken'
[ "$(send your-api-key-1 10)" = ' 10 202' ] || fail 'the first key'
[ "$(send nobody 1)" = ' 1 401' ] || fail 'an unknown key'

step 'Managing the Service: reload'
sed -i 's/your-api-key-1,/rotated-key,/' /etc/log-ingestion/env.conf
# Reload configuration (graceful restart)
sudo systemctl reload log-ingestion
for _ in $(seq 100); do [ "$(send your-api-key-1 1)" = ' 1 401' ] && break; sleep 0.1; done
[ "$(send your-api-key-1 1)" = ' 1 401' ] || fail 'the old key still works'
[ "$(send rotated-key 10)" = ' 10 202' ] || fail 'the new key'

step 'Managing the Service: restart, logs, status'
# Restart service: ten seconds of batches not yet written must be there afterwards.
[ "$(send rotated-key 10)" = ' 10 202' ] || fail 'before the restart'
sudo systemctl restart log-ingestion
sudo systemctl status log-ingestion
# View recent logs
sudo journalctl -u log-ingestion -n 100 | grep -q '"msg":"ready"' || fail 'no log lines'
[ "$(stored)" = 30 ] || fail "stored $(stored) of 30 after the restart"

step 'Updating the Service'
sudo cp bin/server /opt/log-ingestion/bin/
sudo chown log-ingestion:log-ingestion /opt/log-ingestion/bin/server
sudo systemctl restart log-ingestion
curl -sf http://localhost:8080/health > /dev/null

step 'Security: Generate secure API keys'
openssl rand -hex 32 > /dev/null

step 'Reverse Proxy'
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=logs.example.com -days 1 \
  -keyout /etc/ssl/private/logs.key -out /etc/ssl/certs/logs.crt 2> /dev/null
cat > /tmp/nginx.conf <<EOF
pid /run/nginx.pid;
error_log /var/log/nginx-error.log;
events {}
http { access_log off; include /srv/cmd-log/deploy/nginx/log-ingestion.conf; }
EOF
if command -v nginx > /dev/null; then
  nginx -q -t -c /tmp/nginx.conf
  nginx -c /tmp/nginx.conf
  curl -skf https://localhost/health > /dev/null || fail 'not through the proxy'
  nginx -c /tmp/nginx.conf -s stop
else echo 'SKIPPED: nginx is not installed'; fi

step 'Backup and Recovery'
cd /tmp
# Backup database
sudo -u postgres pg_dump logs | gzip > backup-$(date +%Y%m%d-%H%M%S).sql.gz
# Automated backup script (add to cron), as the guide has it
BACKUP_DIR=/var/backups/log-ingestion
mkdir -p $BACKUP_DIR
sudo -u postgres pg_dump logs | gzip > $BACKUP_DIR/backup-$(date +%Y%m%d-%H%M%S).sql.gz
# Keep only last 30 days
find $BACKUP_DIR -name "backup-*.sql.gz" -mtime +30 -delete
# Ours keeps them likewise, and never a half one.
touch -d '31 days ago' $BACKUP_DIR/backup-20200101-000000.sql.gz
chown -R postgres $BACKUP_DIR
backup=$(sudo -u postgres env DATABASE=logs /srv/cmd-log/deploy/backup/log-ingestion-backup.sh)
[ ! -e $BACKUP_DIR/backup-20200101-000000.sql.gz ] || fail 'an old backup was kept'
# Restore from backup: the service stops, the database is made anew.
sudo systemctl stop log-ingestion
psql -q -U postgres -c 'drop database logs' -c 'create database logs' -c 'grant all privileges on database logs to log_ingestion'
gunzip < backup-*.sql.gz | psql -q -U postgres -d logs > /dev/null
[ "$(stored)" = 30 ] || fail "restored $(stored) of 30"
psql -q -U postgres -c 'drop database logs' -c 'create database logs' -c 'grant all privileges on database logs to log_ingestion'
sudo -u postgres env DATABASE=logs /srv/cmd-log/deploy/backup/log-ingestion-backup.sh restore "$backup"
[ "$(stored)" = 30 ] || fail "restored $(stored) of 30 by the script"
sudo systemctl start log-ingestion
[ "$(send rotated-key 5)" = ' 5 202' ] || fail 'after the restore'
cd /srv/cmd-log/deploy/guides/log-ingestion

step 'Database Migrations'
cat > migrations/002_add_index.sql <<'EOF'
-- migrations/002_add_index.sql
CREATE INDEX IF NOT EXISTS idx_logs_created_at ON logs(created_at);
EOF
sudo -u postgres psql -d logs -v ON_ERROR_STOP=1 -f migrations/002_add_index.sql

step 'Troubleshooting'
sudo journalctl -u log-ingestion -n 50 > /dev/null
PGPASSWORD=your-secure-password psql -h localhost -U log_ingestion -d logs -c '\dt' > /dev/null
# Permission denied, port taken, wrong password: each is said in one line.
runuser -u log-ingestion -- env LOG_INGESTION_DB_PASSWORD=wrong LOG_INGESTION_DB_USER=log_ingestion LOG_INGESTION_DATA_DIR=/tmp/second \
  /opt/log-ingestion/bin/server > /tmp/second.log 2>&1 && fail 'a second one on the same port' || true
grep -q 'LOG_INGESTION_SERVER_PORT' /tmp/second.log || { cat /tmp/second.log; fail 'the taken port was not explained'; }

sudo systemctl stop log-ingestion
[ "$(stored)" = 35 ] || fail "stored $(stored) of 35"

step 'Installed by the script instead'
userdel log-ingestion && rm -r /opt/log-ingestion /etc/log-ingestion
/srv/cmd-log/deploy/install-log-ingestion.sh
[ "$(stat -c '%U %a' /etc/log-ingestion/env.conf)" = 'log-ingestion 600' ] || fail 'the env file is readable by others'
key=$(sed -n 's/^LOG_INGESTION_API_KEYS=//p' /etc/log-ingestion/env.conf)
sudo systemctl start log-ingestion
[ "$(send "$key" 1)" = ' 1 202' ] || fail 'the generated key'
sudo systemctl stop log-ingestion
step done

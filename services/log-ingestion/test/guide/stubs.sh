# What a machine has and a test namespace has not: sudo, and a service manager that runs what the unit file says.
mkdir -p "$STUBS"
cat > "$STUBS/sudo" <<'EOF'
#!/bin/sh
user=
while :; do case $1 in -u) user=$2; shift 2 ;; --) shift; break ;; *) break ;; esac; done
if [ -n "$user" ]; then exec runuser -u "$user" -- "$@"; fi
exec "$@"
EOF
cat > "$STUBS/systemctl" <<'EOF'
#!/bin/bash
# start, stop, restart, reload, status, enable, daemon-reload of the unit that was installed.
set -u
unit=/etc/systemd/system/log-ingestion.service
pidfile=/run/log-ingestion.pid
value() { sed -n "s/^$1=//p" "$unit" | sed 's/^-//'; }
alive() { [ -s "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null; }
start() {
  alive && return 0
  user=$(value User)
  touch /var/log/log-ingestion.log
  before=$(grep -c '"msg":"ready"' /var/log/log-ingestion.log)
  # As systemd: its own environment, not the caller's; the file is read by root.
  environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
  while read -r line; do environment+=("$line"); done < <(grep -v '^#' "$(value EnvironmentFile)" | grep .)
  for pair in $(value Environment); do environment+=("$pair"); done
  (
    cd "$(value WorkingDirectory)"
    ulimit -n "$(value LimitNOFILE)" 2> /dev/null || true
    umask "$(value UMask)"
    exec setsid env -i "${environment[@]}" setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs \
      "$(value ExecStart)" >> /var/log/log-ingestion.log 2>&1
  ) &
  echo $! > "$pidfile"
  for _ in $(seq 600); do
    # In the place of READY=1 on the notify socket.
    [ "$(grep -c '"msg":"ready"' /var/log/log-ingestion.log)" -gt "$before" ] && return 0
    alive || { cat /var/log/log-ingestion.log >&2; return 1; }
    sleep 0.1
  done
  return 1
}
stop() {
  alive || return 0
  kill -TERM "$(cat "$pidfile")"
  for _ in $(seq 350); do alive || { rm -f "$pidfile"; return 0; }; sleep 0.1; done
  echo "still running after 35 s" >&2
  return 1
}
case $1 in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  reload) MAINPID=$(cat "$pidfile") && eval "$(value ExecReload)" ;;
  status) alive && echo "active (running)" ;;
  enable | daemon-reload) [ -e "$unit" ] ;;
  *) echo "systemctl $1 is not played here" >&2; exit 1 ;;
esac
EOF
cat > "$STUBS/journalctl" <<'EOF'
#!/bin/sh
tail -n 100 /var/log/log-ingestion.log
EOF
chmod +x "$STUBS"/*
PATH=$STUBS:$PATH

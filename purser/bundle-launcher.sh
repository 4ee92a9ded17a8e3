#!/bin/sh
# @SERVICE@ @VERSION@: this file holds Node and the program. They are unpacked once, beside the folder this file is in
# (../lib), or where that may not be written, below the state or the temporary directory.
set -eu
name=@SERVICE@-@DIGEST@
self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self")
  case $target in
    /*) self=$target ;;
    *) self=$(dirname "$self")/$target ;;
  esac
done
here=$(cd "$(dirname "$self")/.." && pwd -P)

run() {
  NODE_COMPILE_CACHE=${NODE_COMPILE_CACHE-$1/.compile-cache}
  export NODE_COMPILE_CACHE
  app=$1
  shift
  # It has the flags that keep the memory small.
  exec "$app/bin/@SERVICE@" "$@"
}

# Only what root or we ourselves own is run: the temporary directory belongs to everybody.
is_ours() {
  owner=$(stat -c %u "$1" 2>/dev/null || stat -f %u "$1")
  [ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ]
}

for base in "$here/lib" ${STATE_DIRECTORY:+"${STATE_DIRECTORY%%:*}/lib"} "${TMPDIR:-/tmp}/@SERVICE@-$(id -u)"; do
  app=$base/$name
  if [ -x "$app/bin/@SERVICE@" ] && is_ours "$base" && is_ours "$app"; then run "$app" "$@"; fi
done

for base in "$here/lib" ${STATE_DIRECTORY:+"${STATE_DIRECTORY%%:*}/lib"} "${TMPDIR:-/tmp}/@SERVICE@-$(id -u)"; do
  app=$base/$name
  mkdir -p -m 0755 "$base" 2>/dev/null && is_ours "$base" || continue
  part=$(mktemp -d "$base/.part-XXXXXX" 2>/dev/null) || continue
  if tail -n +@LINES@ "$self" | gzip -dc | tar -xf - -C "$part"; then
    chmod 0755 "$part"
    # Another start may have been first: its folder is as good.
    mv -T "$part" "$app" 2>/dev/null || rm -rf "$part"
    run "$app" "$@"
  fi
  rm -rf "$part"
done
echo "$self: there is nowhere to unpack to: tried $here/lib, \$STATE_DIRECTORY and ${TMPDIR:-/tmp}; 200 MB are needed" >&2
exit 1

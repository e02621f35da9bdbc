#!/bin/bash
# Put sample plugins into OUTDIR, ready to run: deploy/samples/build.sh OUTDIR [NAME...]   (all four without names)
# Files 0644, programs and directories 0755, owned by whoever runs this: a host refuses executables that others can write.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 OUTDIR [notes|clock|count|hostile ...]" >&2; exit 64; }
samples=$(cd "$(dirname "$0")" && pwd)
tree=${samples%/deploy/samples}
umask 022
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- notes clock count hostile

compile_count() {
  local bun scratch
  case $(uname -m) in
    x86_64) bun=$tree/node_modules/@oven/bun-linux-x64-baseline/bin/bun ;;
    aarch64) bun=$tree/node_modules/@oven/bun-linux-aarch64/bin/bun ;;
    *) echo "error: no bun for $(uname -m); expected x86_64 or aarch64" >&2; exit 69 ;;
  esac
  [ -x "$bun" ] || { echo "error: $bun is missing" >&2; echo "hint:  run: npm ci" >&2; exit 69; }
  scratch=$(mktemp -d)
  # From the scratch directory: bun leaves temporary files in the current one, and reads settings from it and from HOME.
  (cd "$scratch" && HOME=$scratch "$bun" build --compile "$samples/count/main.ts" --outfile count >log 2>&1) || {
    cat "$scratch/log" >&2
    rm -rf "$scratch"
    exit 70
  }
  install -m 0755 "$scratch/count" "$out/count"
  rm -rf "$scratch"
}

for name; do
  case $name in
    notes)
      # A fresh directory each time: what an earlier build left must not become part of a hashed tree.
      rm -rf "${out:?}/notes"
      cp -R "$samples/notes" "$out/notes"
      chmod -R u=rwX,go=rX "$out/notes"
      ;;
    clock) install -m 0755 "$samples/clock/clock" "$out/clock" ;;
    hostile) install -m 0755 "$samples/hostile" "$out/hostile" ;;
    count) compile_count ;;
    *) echo "error: no sample \"$name\"; expected notes, clock, count or hostile" >&2; exit 64 ;;
  esac
done

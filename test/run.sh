#!/bin/bash
# Runs one layer of the tests, or all of them, and says on its last line how it went: "N passed, N failed[, N skipped]".
#
#   test/run.sh all|unit|kernel|vm|browser [vitest argument...]
#
#   unit     types, then everything that needs no root and no network: seconds
#   kernel   namespaces, cgroups, seccomp, nftables and whole plugins on this machine (root)
#   vm       the same on a stock Debian kernel under systemd (root)
#   browser  headless Chromium
#   all      set-up of the machine, then every layer; a skipped test counts as a failure
#
# Exit status: 0 only if at least one test ran, none failed and, under KERNEL_TESTS=required, none was skipped.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
layer=${1:-all}
shift || true
case $layer in
  all) layers=(unit kernel vm browser); export KERNEL_TESTS=required; setup=test ;;
  unit) layers=(unit); setup=deps ;;
  kernel | vm | browser) layers=("$layer"); setup=test ;;
  *) echo "error: unknown layer \"$layer\"" >&2; echo 'hint:  usage: test/run.sh all|unit|kernel|vm|browser' >&2; exit 64 ;;
esac

passed=0 failed=0 skipped=0
scratch=$(mktemp -d /tmp/cordon-test-run.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

# The last line, whatever happened before it.
finish() {
  local status=0
  [ "${KERNEL_TESTS:-}" != required ] || [ "$skipped" = 0 ] || { echo "error: $skipped skipped, and KERNEL_TESTS=required allows none"; status=1; }
  [ "$failed" = 0 ] || status=1
  [ $((passed + failed)) -gt 0 ] || { echo 'error: no test ran'; status=1; }
  [ ! -s "$scratch/failures" ] || cat "$scratch/failures"
  if [ "$skipped" = 0 ]; then echo "$passed passed, $failed failed"; else echo "$passed passed, $failed failed, $skipped skipped"; fi
  exit "$status"
}

# check TEXT COMMAND... : a promise that is not a vitest test.
check() {
  local text=$1
  shift
  if "$@"; then passed=$((passed + 1)); echo "ok: $text"; else failed=$((failed + 1)); echo "FAILED: $text"; fi
}

bash deploy/setup.sh "$setup" || { failed=1; finish; }
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
export PATH=$PWD/node_modules/node-linux-$arch/bin:$PATH # tests that start `node` get the pinned one too

run_vitest() {
  local name=$1 limit=$2 status=0 counts
  shift 2
  timeout --foreground -k 10 "$limit" node node_modules/vitest/vitest.mjs run --project "$name" \
    --reporter=default --reporter=json --outputFile.json="$scratch/$name.json" "$@" </dev/null || status=$?
  [ "$status" != 124 ] || echo "error: the $name layer had not ended after $limit s"
  counts=$(node test/tally.mjs "$scratch/$name.json" "$status" 2>>"$scratch/failures")
  read -r p f s <<<"$counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

for name in "${layers[@]}"; do
  echo "== $name"
  case $name in
    unit)
      check 'the types agree' node node_modules/typescript/bin/tsc --noEmit -p .
      run_vitest unit 1200 "$@"
      ;;
    kernel)
      bash test/leftovers.sh list >"$scratch/before"
      run_vitest kernel 2700 "$@"
      check 'the kernel layer left nothing behind' bash test/leftovers.sh since "$scratch/before"
      ;;
    vm) run_vitest vm 3600 "$@" ;;
    browser) run_vitest browser 1200 "$@" ;;
  esac
done
finish

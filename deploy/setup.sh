#!/bin/bash
# Makes this machine ready, and does nothing where it already is.
#
#   deploy/setup.sh [runtime|test|deps]
#
#   runtime  Debian packages that Cordon runs on, npm packages, dist/ (default)
#   test     runtime, and what `npm test` needs on top, with the kernel package of the test VM
#   deps     npm packages alone: enough for `npm run test:unit`, needs no root
#
# Debian 12 and 13. Root is needed only if a Debian package is missing. Silent unless something takes longer than a moment.
set -euo pipefail
layer=${1:-runtime}
tree=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
log=

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf 'hint:  %s\n' "$2" >&2; exit "${3:-69}"; }
trap 'fail "deploy/setup.sh:$LINENO ended with status $?" "This is a defect in the set-up; report it with the lines above." 70' ERR
trap '[ -z "$log" ] || rm -f "$log"' EXIT

# step SECONDS TEXT COMMAND... : says TEXT, keeps the command's output out of the way unless it fails or outlives SECONDS.
step() {
  local limit=$1 text=$2 start=$SECONDS
  shift 2
  say "$text ..."
  log=$(mktemp)
  timeout --foreground -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null || {
    local status=$?
    tail -n 40 "$log" >&2
    [ "$status" != 124 ] || fail "$text: not done after $limit s"
    fail "$text: \`$*\` ended with status $status (its last lines are above)"
  }
  rm -f "$log"
  log=
  say "$text: done in $((SECONDS - start)) s"
}

case $layer in runtime | test | deps) ;; *) fail "unknown set-up \"$layer\"" 'usage: deploy/setup.sh [runtime|test|deps]' 64 ;; esac
case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) fail "Cordon runs on x86-64 and arm64 Linux, not on $(uname -m)" ;;
esac
node=$tree/node_modules/node-linux-$arch/bin/node

# dpkg-query complains about the names that it does not know and prints the others.
installed() { { dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } | sed -n 's/^installed //p'; }

# as_root WHAT : a clear refusal instead of apt's lock error.
as_root() {
  [ "$(id -u)" = 0 ] || fail "$1, and only root can install packages" "run as root: bash $tree/deploy/setup.sh $layer" 77
  command -v apt-get >/dev/null || fail "$1, and this machine has no apt-get" 'Cordon is packaged for Debian 12 and 13.'
}

package_lists() {
  [ -z "${lists_are_fresh:-}" ] || return 0
  step 300 'reading the package lists' apt-get -o Acquire::Retries=3 update -qq
  lists_are_fresh=yes
}

apt_install() {
  package_lists
  export DEBIAN_FRONTEND=noninteractive
  step 1800 "installing $*" apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 install -y -qq --no-install-recommends "$@"
}

debian_packages() {
  local wanted=() missing=() choice=() names=() set want name have
  while read -r set want _; do
    case $set/$layer in runtime/* | test/test) wanted+=("$want") ;; esac
  done <"$tree/deploy/packages.txt"
  IFS=' ' read -r -a names <<<"${wanted[*]//|/ }"
  have=" $(installed "${names[@]}" | tr '\n' ' ') "
  for want in "${wanted[@]}"; do
    for name in ${want//|/ }; do case $have in *" $name "*) continue 2 ;; esac; done
    missing+=("$want")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  as_root "these Debian packages are missing: ${missing[*]}"
  package_lists
  for want in "${missing[@]}"; do
    for name in ${want//|/ }; do
      apt-cache show "$name" >/dev/null 2>&1 && { choice+=("$name"); continue 2; }
    done
    fail "this release has no package ${want//|/ or }" 'Cordon is packaged for Debian 12 and 13.'
  done
  apt_install "${choice[@]}"
}

# Current means: every package of the lockfile that fits this machine lies in node_modules in that version, and nothing else does.
npm_packages_are_current() {
  [ -x "$node" ] && [ -f "$tree/node_modules/.package-lock.json" ] && "$node" - "$tree" <<'J'
const { readFileSync } = require('node:fs')
const read = (file) => JSON.parse(readFileSync(`${process.argv[2]}/${file}`, 'utf8')).packages
const want = read('package-lock.json')
const have = read('node_modules/.package-lock.json')
const fits = (list, mine) => list === undefined || [list].flat().includes(mine)
for (const [path, { version, optional, os, cpu, libc }] of Object.entries(want)) {
  if (path === '') continue
  const here = have[path]
  const mayBeAbsent = optional && (!(os || cpu) || !fits(os, 'linux') || !fits(cpu, process.arch) || !fits(libc, 'glibc'))
  if (here ? here.version !== version : !mayBeAbsent) process.exit(1)
}
process.exit(Object.keys(have).every((path) => path in want) ? 0 : 1)
J
}

npm_packages() {
  npm_packages_are_current && return
  # npm ci would empty the directory that a link leads to, which is another tree's.
  [ ! -L "$tree/node_modules" ] || fail "$tree/node_modules is a link to $(readlink "$tree/node_modules"), and its packages are not those of this tree's lockfile" 'Remove the link, or install in the tree that it leads to.'
  command -v npm >/dev/null || { as_root 'npm is missing'; apt_install npm; }
  # Lockfile only, and no package's own scripts: none of ours needs any.
  (cd "$tree" && step 900 'installing npm packages (npm ci)' npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  [ -x "$node" ] || fail "npm ci did not bring $node" 'Optional packages must not be left out: unset npm'"'"'s "omit" setting.'
}

build() {
  # dist/cli.cjs is newer than every source, and than every folder that lost one.
  [ -f "$tree/dist/cli.cjs" ] && [ -z "$(find "$tree/src" "$tree/deploy/build.mjs" "$tree/package-lock.json" -newer "$tree/dist/cli.cjs" -print -quit)" ] && return
  (cd "$tree" && step 120 'building dist/' "$node" deploy/build.mjs)
}

exec 9<"$tree/package.json" # two set-ups at once must not both replace node_modules
flock -w 1800 9 || fail "another set-up of $tree is still running"
[ "$layer" = deps ] || debian_packages
npm_packages
[ "$layer" = deps ] || build
[ "$layer" != test ] || bash "$tree/test/vm/vm-run" --prepare

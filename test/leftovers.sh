#!/bin/bash
# What Cordon may leave on a machine, by name: mounts, namespaces, cgroups, processes, users, nft tables, loop devices.
#
#   leftovers.sh list          one line each
#   leftovers.sh since FILE [SECONDS]   only what FILE (an earlier list) does not have; status 1 if there is any
#
# Compares, so a Cordon that already runs on this machine is no leftover. What is about to end gets so many seconds (20).
set -euo pipefail

list() {
  # Our own mount points, and every named network namespace.
  awk '$5 ~ /cordon/ || / - nsfs / { print "mount " $5 }' /proc/self/mountinfo
  for d in /run/netns /run/cordon/net; do [ ! -d "$d" ] || find "$d" -mindepth 1 -printf 'namespace file %p\n'; done
  find /run -maxdepth 1 -name 'cordon*' -printf 'directory %p\n'
  find /sys/fs/cgroup -type d -path '*cordon*' -printf 'cgroup %p\n' 2>/dev/null || true
  getent passwd | awk -F: '$1 ~ /^cordon/ { print "user " $1 }'
  getent group | awk -F: '$1 ~ /^cordon/ { print "group " $1 }'
  processes
  ! command -v nft >/dev/null || [ "$(id -u)" != 0 ] || nft list tables 2>/dev/null | sed -n '/cordon/s/^/nft /p'
  [ "$(id -u)" != 0 ] || losetup -a 2>/dev/null | sed -n '/cordon/s/^/loop device /p'
}

# Ours: in a cgroup of that name, of a user of that name, in another network namespace, or with one of our programs or folders in argv.
# This script, its parents and its children are not: a checkout may well lie in a folder named cordon.
processes() {
  local p pid cgroup user net args own family ours
  family=" $(ancestors "$BASHPID")"
  own=$(readlink /proc/self/ns/net)
  for p in /proc/[0-9]*; do
    pid=${p#/proc/}
    case $family in *" $pid "*) continue ;; esac
    args=$(tr '\0' ' ' 2>/dev/null <"$p/cmdline") || continue
    [ -n "$args" ] || continue # kernel threads, zombies
    cgroup=$(cat "$p/cgroup" 2>/dev/null) || continue
    user=$(stat -c %U "$p" 2>/dev/null) || continue
    net=$(readlink "$p/ns/net") || net=$own # only root may ask about another user's
    ours=
    case $cgroup in *cordon*) ours=yes ;; esac
    case $user in cordon*) ours=yes ;; esac
    case $args in *dist/launcher.cjs* | *dist/gateway.cjs* | */run/cordon*) ours=yes ;; esac
    [ "$net" = "$own" ] || ours=yes
    [ -n "$ours" ] || continue
    printf 'process %s of %s: %.200s\n' "$pid" "$user" "$args"
  done
}

ancestors() {
  local pid=$1
  while [ "${pid:-0}" -gt 0 ]; do
    printf '%s ' "$pid"
    pid=$(sed -n 's/^PPid:\t//p' "/proc/$pid/status" 2>/dev/null) || return 0
  done
}

case ${1:-} in
  list) list | sort -u ;;
  since)
    until=$((SECONDS + ${3:-20}))
    while :; do
      now=$(list | sort -u) # before comm starts: it has FILE in its argv
      new=$(comm -13 "$2" - <<<"$now")
      [ -n "$new" ] || exit 0
      [ "$SECONDS" -lt "$until" ] || break
      sleep 0.5
    done
    echo 'left behind:' >&2
    printf '  %s\n' "${new//$'\n'/$'\n'  }" >&2
    exit 1
    ;;
  *) echo 'usage: leftovers.sh list | since FILE [SECONDS]' >&2; exit 64 ;;
esac

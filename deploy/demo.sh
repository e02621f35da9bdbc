#!/bin/bash
# Four sample plugins behind Cordon's walls, one of them hostile: what each was given, what was refused, a link to each page.
#
#   npm run demo [-- --once]      as root, on Debian 12 or 13
#
#   --once   do not wait for Ctrl-C; exit status 0 only if every wall held and the other three served their pages
#
#   CORDON_DEMO_PATIENCE=20   wait that many times longer for everything, on a very slow machine
#
# Everything lies in directories of its own (/var/lib/cordon-demo.*, /run/cordon-demo.*) and is removed at the end;
# an installed Cordon is not touched.
set -euo pipefail
tree=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
for argument; do
  case $argument in
    --once) ;;
    *) echo "error: unknown option \"$argument\"" >&2; echo 'hint:  usage: npm run demo [-- --once]' >&2; exit 64 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo 'error: the demo makes OS users, cgroups and namespaces, and only root can' >&2; echo 'hint:  sudo npm run demo' >&2; exit 77; }
bash "$tree/deploy/setup.sh" runtime
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
exec "$tree/node_modules/node-linux-$arch/bin/node" "$tree/deploy/demo/main.ts" "$@"

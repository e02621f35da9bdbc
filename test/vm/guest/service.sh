#!/bin/bash
# An operator's whole way on a stock machine: install, a plugin behind its walls, reload, crash, upgrade, stop, uninstall.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
name=good-gen2
program=/var/lib/cordon/plugins/$name
policy=/etc/cordon/policies/$name.yaml
group=/sys/fs/cgroup/system.slice/cordon.service

installs() {
  bash "$tree/deploy/install.sh"
  systemctl is-enabled cordon.service
  [ "$(readlink -f /usr/bin/cordon)" = /usr/lib/cordon/deploy/cordon ]
  [ -z "$(find /usr/lib/cordon ! -user root -o -perm /022 ! -type l)" ] || { echo 'not root alone can write to the program'; return 1; }
}

starts() {
  timeout 240 systemctl start cordon.service || { journalctl --no-pager -n 20 -u cordon.service; return 1; }
  cordon status --json | grep -q '"port":8480'
  expect 'mode of the admin token' "$(stat -c '%a %u' /var/lib/cordon/admin-token)" '600 0'
}

state() { cordon status --json "$name" 2>/dev/null | sed -n 's/.*"state":"\([a-z]*\)".*/\1/p'; }
is_running() { expect state "$(state)" running; }
# The plugin's own process: of its user (in the usual range: the machine that lends its root may have tests at work), and the interpreter of its script.
plugin_pid() { pgrep -u "$(getent passwd | awk -F: -v name="cordon-p-$name" 'index($1, name) == 1 && $3 >= 1880000000 && $3 < 1880060000 { print $3 }')" -f "/plugin/$name" | tail -n 1; }

runs_a_plugin() {
  install -m 755 "$tree/test/fixtures/plugins/$name" "$program"
  printf 'plugin: %s\nexecutable: { path: %s, sha256: %s }\nlimits: { MemoryMax: 96M, TasksMax: 32 }\n' "$name" "$program" "$(sha256sum "$program" | cut -d' ' -f1)" >"$policy"
  cordon reload
  eventually 180 is_running
}

is_walled() {
  local pid
  pid=$(plugin_pid)
  expect 'NoNewPrivs, Seccomp, CapEff' "$(sed -n 's/^\(NoNewPrivs\|Seccomp\|CapEff\):\t//p' "/proc/$pid/status" | tr '\n' ' ')" '0000000000000000 1 2 '
  [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/1/ns/net)" ] || { echo 'it shares the network of the host'; return 1; }
  local leaf=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
  case $leaf in "$group/plugins/$name/"*) ;; *) echo "its cgroup is $leaf"; return 1 ;; esac
  expect 'memory.max' "$(cat "$leaf/memory.max")" $((96 << 20))
  expect 'pids.max' "$(cat "$leaf/pids.max")" 32
}

# Under the unit the launcher has the right and the device; what it counts there is shown by walls.sh.
counts_refused_calls() {
  ! cordon status | grep 'not recorded' || return 1
  readlink "/proc/$(systemctl show -p MainPID --value cordon.service)/fd/"* | grep -qx /dev/kmsg
}

# served CODE [curl argument...] : what the gateway answers for the plugin's page
served() { expect 'HTTP status' "$(curl -s -o /dev/null -w '%{http_code}' -m 60 "${@:2}" "http://localhost:8480/api/x/$name/echo")" "$1"; }
answers_the_token_alone() {
  served 401
  served 200 -H "authorization: Bearer $(cat /var/lib/cordon/admin-token)"
}

# The module for the look at the socket's other end is there, and the unit leaves the launcher what it needs. The look has a limit of its own,
# which a machine that is still booting may miss once.
reloads_verified() { cordon reload; cordon audit query --type admin.act --json | tee /dev/stderr | grep -q '"who":"root[^"]*","who_verified":true'; }
tells_who() { eventually 180 reloads_verified; }

quarantine_freezes() {
  local pid leaf
  pid=$(plugin_pid)
  leaf=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
  cordon quarantine "$name" --reason 'a trial'
  expect 'cgroup.freeze' "$(cat "$leaf/cgroup.freeze")" 1
  grep -qx 'frozen 1' "$leaf/cgroup.events"
  served 503 -H "authorization: Bearer $(cat /var/lib/cordon/admin-token)"
  cordon release "$name" --reason 'a trial'
  is_running
  [ ! -e "/proc/$pid" ] && [ ! -e "$leaf" ]
}

reload_keeps() {
  local before
  before=$(plugin_pid)
  systemctl reload cordon.service
  is_running
  expect 'pid after a reload that changed nothing' "$(plugin_pid)" "$before"
  sed -i 's/96M/80M/' "$policy"
  systemctl reload cordon.service
  eventually 180 is_running
  eventually 180 eval '[ "$(cat '"$group/plugins/$name"'/*/memory.max)" = '$((80 << 20))' ]'
}

survives_a_crash() {
  local main old
  main=$(systemctl show -p MainPID --value cordon.service) old=$(plugin_pid)
  kill -9 "$main"
  eventually 60 eval '[ ! -e /proc/'"$old"' ]'
  eventually 180 is_running
  [ "$(systemctl show -p MainPID --value cordon.service)" != "$main" ]
}

upgrades() {
  echo '# the operator was here' >>/etc/cordon/cordon.yaml
  bash "$tree/deploy/install.sh" | tee /dev/stderr | grep -q 'restarted cordon.service'
  grep -q 'the operator was here' /etc/cordon/cordon.yaml
  eventually 180 is_running
}

# Without users, which stay, and without this script's own pipes: its unit has `cordon` in its name too.
list_left() { bash "$tree/test/leftovers.sh" list >/tmp/left; grep -v -e '^user ' -e '^group ' -e '^process [0-9]* of root: sort -u' /tmp/left || true; }

stops() {
  timeout 240 systemctl stop cordon.service
  expect 'how the unit ended' "$(systemctl show -p Result --value cordon.service)" success
  nothing_left() { list_left >/tmp/after; expect 'left behind' "$(comm -13 /tmp/before /tmp/after)" ''; }
  eventually 20 nothing_left # the kernel takes away a namespace or a cgroup when it gets to it
  expect 'processes of plugins' "$(ps -eo uid= | awk '$1 >= 1880000000' | wc -l)" 0
  [ ! -e /run/cordon ] && [ ! -e "$group" ]
}

verifies() { cordon audit verify; }

uninstalls() {
  bash "$tree/deploy/install.sh" --uninstall
  for path in /usr/lib/cordon /usr/bin/cordon /usr/lib/systemd/system/cordon.service; do [ ! -e "$path" ] || { echo "$path stayed"; return 1; }; done
  [ -f /etc/cordon/cordon.yaml ] && [ -f "$policy" ] && [ -d /var/lib/cordon/audit ]
  getent passwd | grep -q "^cordon-p-$name" && ! getent passwd cordon
}

purges() {
  bash "$tree/deploy/install.sh"
  bash "$tree/deploy/install.sh" --purge
  [ ! -e /etc/cordon ] && [ ! -e /var/lib/cordon ]
  ! getent passwd | grep '^cordon'
}

promise 'install.sh puts program, unit and defaults in place, writable for root alone' installs
list_left >/tmp/before
promise 'the installed service starts and makes an admin token that only root can read' starts
promise 'an unmodified plugin runs once its policy is there and reload was said' runs_a_plugin
promise 'who said reload is on record as the kernel says it' tells_who
promise 'the plugin has no capability, a filter, a network of its own and the limits of its policy' is_walled
promise 'refused system calls can be recorded under the unit' counts_refused_calls
promise 'the plugin answers through the gateway to the token and to nobody else' answers_the_token_alone
promise 'quarantine freezes its cgroup and answers 503; release ends what is frozen and starts it anew' quarantine_freezes
promise 'reload restarts a plugin whose policy changed, and no other' reload_keeps
promise 'when the daemon is killed its plugin dies with it, and both come back' survives_a_crash
promise 'installing again upgrades, restarts, and keeps what was configured' upgrades
promise 'stop leaves no process, cgroup, mount or namespace' stops
promise 'the audit log of all that verifies' verifies
promise 'uninstall leaves configuration, data and plugin users, and nothing else' uninstalls
promise 'purge leaves nothing' purges

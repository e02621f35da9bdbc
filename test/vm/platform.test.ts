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
  ],
)

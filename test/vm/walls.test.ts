import { guestPromises } from './guest-promises.ts'

guestPromises(
  ['bash', 'test/vm/guest/walls.sh'],
  [
    'limits of a policy stand in the files of its cgroup',
    'above TasksMax it cannot fork, above LimitNOFILE not open, above TmpMax not write',
    'above MemoryHigh it is slowed down, which the kernel counts, and lives',
    'it reads a disk no faster than IOReadBandwidthMax',
    'Node sizes its heap by the limit of the cgroup, and not without one',
    'it sees its own cgroup as the root, in a cgroup namespace of its own, and cannot write there',
    'no subtree_control above our cgroup changed, meanwhile or afterwards',
    'a crash behind the walls does not start the piped core helper of the host',
    'above MemoryMax the whole group is killed at once, and the record counts the kills',
    'CPU beyond the quota is throttled, and the kernel counts it',
    'every attempt of the hostile sample is held',
    'refused system calls leave lines in the kernel log',
    'refused system calls are on record with the run, by name',
    'names of processes and digests of programs are on record with the run',
    'a limit that this host cannot enforce is refused by name',
    'walls that differ from the plan are seen before the program starts, each by name',
    'nothing is left',
  ],
)

import { guestPromises } from './guest-promises.ts'

guestPromises(
  ['bash', 'test/vm/guest/no-ipv6.sh'],
  [
    'this kernel has no IPv6',
    'cordon run works, and stays sealed',
    'a listener of the host received nothing from it, and hears from outside the walls',
    'the door opens where it was told to',
    'its attempts are on record',
    'doctor says that there is no IPv6, and fails on nothing for it',
    'the daemon serves',
  ],
  { append: 'ipv6.disable=1' },
)

import { guestPromises } from './guest-promises.ts'

guestPromises(
  ['bash', 'test/vm/guest/service.sh'],
  [
    'install.sh puts program, unit and defaults in place, writable for root alone',
    'the installed service starts and makes an admin token that only root can read',
    'an unmodified plugin runs once its policy is there and reload was said',
    'who said reload is on record as the kernel says it',
    'the plugin has no capability, a filter, a network of its own and the limits of its policy',
    'refused system calls can be recorded under the unit',
    'the plugin answers through the gateway to the token and to nobody else',
    'quarantine freezes its cgroup and answers 503; release ends what is frozen and starts it anew',
    'reload restarts a plugin whose policy changed, and no other',
    'when the daemon is killed its plugin dies with it, and both come back',
    'installing again upgrades, restarts, and keeps what was configured',
    'stop leaves no process, cgroup, mount or namespace',
    'the audit log of all that verifies',
    'uninstall leaves configuration, data and plugin users, and nothing else',
    'purge leaves nothing',
  ],
)

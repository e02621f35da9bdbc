import { guestPromises } from './guest-promises.ts'

guestPromises(
  ['bash', 'test/vm/guest/door.sh'],
  [
    'cordon run --allow reaches that destination through the door',
    'nothing else that it tries is let through, and nothing of it arrives',
    'its names are answered inside, whatever resolver of either family it asks',
    'the door was attested, and inside its listeners are the only ones',
    'each connection and each refusal is on record, with its reason',
    'before TCP runs out of memory the door closes what a plugin does not read, and nothing else of it',
    'nothing is left',
  ],
)

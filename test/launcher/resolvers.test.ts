import { Resolver } from 'node:dns/promises'
import { expect, test } from 'vitest'
import { resolvers } from '../../src/cli/doctor-look.ts'
import { resolversOf } from '../../src/launcher/resolvers.ts'

test('resolvers are read as libc reads them', () => {
  expect(resolversOf('# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch example.org\nnameserver\t2001:db8::53\noptions edns0\n')).toEqual({ asked: ['127.0.0.53', '2001:db8::53'], skipped: [] })
})

test('one that the door cannot reach or read is left out with the reason, and the others are asked', () => {
  const { asked, skipped } = resolversOf('nameserver fe80::1%eth0\nnameserver fe80::2\nnameserver 999.1.1.1\nnameserver 192.0.2.53\nnameserver 2001:db8::53%eth0\n')
  expect(asked).toEqual(['192.0.2.53', '2001:db8::53'])
  expect(skipped).toEqual([
    expect.stringMatching(/^fe80::1%eth0 is link-local/), expect.stringMatching(/^fe80::2 is link-local/), '999.1.1.1 is no address',
  ])
  const node = new Resolver()
  node.setServers(asked)
  expect(node.getServers()).toEqual(asked)
})

test('why they are left out still holds: Node drops the zone of a resolver, and refuses what is no address', () => {
  const node = new Resolver()
  node.setServers(['fe80::1%lo'])
  expect(node.getServers()).toEqual(['fe80::1'])
  expect(() => node.setServers(['192.0.2.53', '999.1.1.1'])).toThrow('999.1.1.1')
})

test('doctor names what is left out, and warns where nobody is asked', () => {
  expect(resolvers(resolversOf('nameserver 192.0.2.53\n'))).toMatchObject({ state: 'ok', found: '192.0.2.53' })
  expect(resolvers(resolversOf('nameserver 192.0.2.53\nnameserver fe80::1%eth0\n'))).toMatchObject({ state: 'warn', found: expect.stringContaining('fe80::1%eth0 is link-local') as string })
  expect(resolvers(resolversOf('nameserver fe80::1%eth0\n'))).toMatchObject({ state: 'warn', means: expect.stringContaining('no name can be resolved') as string })
  expect(resolvers(resolversOf(''))).toMatchObject({ state: 'warn', found: '/etc/resolv.conf names none' })
})

import { expect, test } from 'vitest'
import { shortOfTcpMemory } from '../../src/launcher/tcp-memory.ts'

const MIB = 2 ** 20
const files = (all: Readonly<Record<string, string>>) => (path: string): string | null => all[path] ?? null
const door = (sock: number, max: string) => files({ '/door/memory.stat': `anon 1\nsock ${sock}\nshmem 0\n`, '/door/memory.max': `${max}\n` })
const host = (pages: number, limits = '33720\t44961\t67440\n') => files({ '/proc/sys/net/ipv4/tcp_mem': limits, '/proc/net/sockstat': `sockets: used 9\nTCP: inuse 6 orphan 0 tw 0 alloc 12 mem ${pages}\nUDP: inuse 1 mem 9\n` })

test('connections may hold a quarter of the door\'s memory', () => {
  expect(shortOfTcpMemory('/door', door(96 * MIB, String(384 * MIB)))).toBeNull()
  expect(shortOfTcpMemory('/door', door(97 * MIB, String(384 * MIB)))).toBe('what connections hold in the kernel is 97 MiB of the door\'s 384 MiB')
})

test('and on the host as much as the kernel holds without holding back', () => {
  expect(shortOfTcpMemory(null, host(44_961))).toBeNull()
  expect(shortOfTcpMemory(null, host(44_962))).toBe('TCP holds 176 MiB on this host, which makes the kernel hold back from 176 MiB')
  expect(shortOfTcpMemory('/door', (path) => door(0, 'max')(path) ?? host(50_000)(path))).toMatch(/^TCP holds 195 MiB/)
})

test('where the kernel does not say it, nothing is short; nor without a limit', () => {
  expect(shortOfTcpMemory('/door', () => null)).toBeNull()
  expect(shortOfTcpMemory('/door', door(5000 * MIB, 'max'))).toBeNull()
  expect(shortOfTcpMemory(null, host(99, 'not what it should be'))).toBeNull()
})

test('this machine\'s own files can be read', () => {
  expect(() => shortOfTcpMemory(null)).not.toThrow()
})

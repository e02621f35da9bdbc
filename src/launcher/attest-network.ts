import { readFileSync } from 'node:fs'
import type { SandboxPlan } from '../plan/plan.ts'
import type { Expect } from './comparison.ts'

/** Only `lo`, only local routes, and all of the door's listeners. */
export function attestNetwork(proc: string, listeners: SandboxPlan['listeners'], ipv6: boolean, expect: Expect): void {
  const lines = (file: string): string[] => readFileSync(`${proc}/net/${file}`, 'utf8').trim().split('\n')
  expect('links', 'lo', lines('dev').slice(2).map((line) => line.trim().split(':')[0]).join(' '))
  expect('routes to elsewhere', '', lines('route').slice(1).join('; ')) // /proc/net/route lists all that is not local or broadcast
  expect('default route', 'local', /0\.0\.0\.0\n\s+\/0 host LOCAL/.test(readFileSync(`${proc}/net/fib_trie`, 'utf8')) ? 'local' : 'absent')
  const open = socketsIn(proc)
  expect('door', '', doorSockets(listeners, ipv6).filter((one) => !open.includes(one)).slice(0, 5).join('; ')) // what should listen and does not
  if (!ipv6) return
  const routes6 = lines('ipv6_route').map((line) => line.trim().split(/\s+/))
  expect('ipv6 links', 'lo', [...new Set(routes6.map((route) => route[9]))].join(' '))
  // Flags of linux/ipv6_route.h: RTF_LOCAL marks a local route, RTF_REJECT the kernel's own null entry.
  const elsewhere = routes6.filter((route) => (parseInt(route[8] ?? '0', 16) & (0x80000000 | 0x0200)) === 0 && route[0] !== '0'.repeat(31) + '1')
  expect('ipv6 routes to elsewhere', '', elsewhere.map((route) => `${route[0]}/${route[1]}`).join(' '))
}

/** Nothing but the door has a socket there: before the program runs nobody else can have opened one. */
export function attestNoOtherSockets(proc: string, listeners: SandboxPlan['listeners'], ipv6: boolean, expect: Expect): void {
  const door = doorSockets(listeners, ipv6)
  expect('sockets', '', socketsIn(proc).filter((one) => !door.includes(one)).slice(0, 5).join('; '))
}

/**
 * Every socket of the namespace that has an address, by proc_pid_net(5): table, local address, uid of its owner. The counts of sockstat come
 * first: the kernel walks the whole host's table to list the TCP sockets of one namespace, which costs 5 ms on a host with much memory, twice.
 */
function socketsIn(proc: string): string[] {
  const read = (file: string): string => {
    try {
      return readFileSync(`${proc}/net/${file}`, 'utf8')
    } catch {
      return '' // no IPv6 in this kernel
    }
  }
  const counts = `${read('sockstat')}\n${read('sockstat6')}`
  const inUse = (table: string): boolean => !new RegExp(`^${table.toUpperCase()}: inuse 0( |$)`, 'm').test(counts)
  return ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'unix'].filter((table) => table === 'unix' || inUse(table)).flatMap((table) =>
    read(table).trim().split('\n').slice(1).map((line) => {
      const fields = line.trim().split(/\s+/)
      return table === 'unix' ? 'unix' : `${table} ${fields[1] ?? ''} ${fields[7] ?? ''}`
    }))
}

/** The door's listeners as `socketsIn` shows them: every wildcard address, owned by the helper that opened them. */
function doorSockets(listeners: SandboxPlan['listeners'], ipv6: boolean): string[] {
  if (listeners === null) return []
  const { tcp, udp, uid } = listeners
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0')
  const all = (table: string, ports: readonly number[]): string[] => ports.flatMap((port) => [
    `${table} 00000000:${hex(port)} ${uid}`,
    ...(ipv6 ? [`${table}6 ${'0'.repeat(32)}:${hex(port)} ${uid}`] : []),
  ])
  return [...all('tcp', tcp), ...all('udp', udp)]
}

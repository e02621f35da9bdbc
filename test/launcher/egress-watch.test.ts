import { describe, expect, test } from 'vitest'
import { attemptsBetween, NOTHING_REFUSED, tooFastBetween } from '../../src/launcher/egress-watch.ts'
import { parseRefused, type RefusedCounts } from '../../src/launcher/network.ts'

function seen(totals: Record<string, number>, destinations: Record<string, number>): RefusedCounts {
  return { totals: new Map(Object.entries(totals)), destinations: new Map(Object.entries(destinations)), tooFast: { tcp: 0, udp: 0 }, nearlyFull: false }
}

describe('attempts between two readings', () => {
  test('are the differences, most frequent first, as a person writes them', () => {
    const before = seen({ tcp4: 5, udp6: 1 }, { 'tcp4 192.0.2.1 443': 5, 'udp6 2001:db8::1 53': 1 })
    const after = seen({ tcp4: 7, udp6: 4, other4: 1 }, { 'tcp4 192.0.2.1 443': 7, 'udp6 2001:db8::1 53': 4, 'other4 192.0.2.1 icmp': 1 })
    expect(attemptsBetween(before, after)).toEqual({
      attempts: [{ destination: 'udp [2001:db8::1]:53', count: 3 }, { destination: 'tcp 192.0.2.1:443', count: 2 }, { destination: 'protocol icmp 192.0.2.1', count: 1 }],
      unnamed: 0,
    })
  })

  test('are none where nothing changed', () => {
    const same = seen({ tcp4: 5 }, { 'tcp4 192.0.2.1 443': 5 })
    expect(attemptsBetween(same, same)).toEqual({ attempts: [], unnamed: 0 })
    expect(attemptsBetween(NOTHING_REFUSED, NOTHING_REFUSED)).toEqual({ attempts: [], unnamed: 0 })
  })

  test('are unnamed where the counter saw more than the set holds', () => {
    expect(attemptsBetween(seen({ udp4: 0 }, {}), seen({ udp4: 1124 }, { 'udp4 192.0.2.1 53': 1024 })).unnamed).toBe(100)
  })

  test('start again at zero for a destination whose set was emptied in between', () => {
    const before = seen({ tcp4: 9 }, { 'tcp4 192.0.2.1 443': 9 })
    expect(attemptsBetween(before, seen({ tcp4: 11 }, { 'tcp4 192.0.2.1 443': 2 }))).toEqual({ attempts: [{ destination: 'tcp 192.0.2.1:443', count: 2 }], unnamed: 0 })
    expect(attemptsBetween({ ...before, destinations: new Map() }, seen({ tcp4: 10 }, { 'tcp4 192.0.2.9 80': 1 })).attempts).toEqual([{ destination: 'tcp 192.0.2.9:80', count: 1 }])
  })

  test('are never fewer than none: what came in between counter and set is not taken off', () => {
    expect(attemptsBetween(seen({ tcp4: 1 }, {}), seen({ tcp4: 1 }, { 'tcp4 192.0.2.1 443': 1 })).unnamed).toBe(0)
  })
})

describe('what came to the door faster than one plugin may', () => {
  test('is told by kind, and apart from attempts elsewhere', () => {
    const [before, after] = [1, 2].map((times) => parseRefused({ nftables: [{ counter: { name: 'door_tcp_fast', packets: 7 } }, { counter: { name: 'door_udp_fast', packets: 500 * times } }] }))
    expect(tooFastBetween(NOTHING_REFUSED, before ?? NOTHING_REFUSED)).toEqual([{ destination: 'the door: connections', count: 7 }, { destination: 'the door: questions for names', count: 500 }])
    expect(tooFastBetween(before ?? NOTHING_REFUSED, after ?? NOTHING_REFUSED)).toEqual([{ destination: 'the door: questions for names', count: 500 }])
    expect(attemptsBetween(NOTHING_REFUSED, after ?? NOTHING_REFUSED)).toEqual({ attempts: [], unnamed: 0 })
  })
})

describe('what nft prints', () => {
  const set = (name: string, count: number) => ({
    set: { name, elem: Array.from({ length: count }, (_, i) => ({ elem: { val: { concat: [`192.0.2.${i}`, 443] }, counter: { packets: i + 1 } } })) },
  })

  test('becomes totals and destinations', () => {
    const counts = parseRefused({ nftables: [{ counter: { name: 'tcp4', packets: 3 } }, { counter: { name: 'udp4', packets: 0 } }, set('tcp4', 2), { set: { name: 'udp4' } }] })
    expect([...counts.totals]).toEqual([['tcp4', 3], ['udp4', 0]])
    expect([...counts.destinations]).toEqual([['tcp4 192.0.2.0 443', 1], ['tcp4 192.0.2.1 443', 2]])
    // The ports of an open door are a set too; what it lets through is no attempt.
    expect(parseRefused({ nftables: [{ set: { name: 'door_tcp', elem: [53, 443] } }, set('tcp4', 2)] }).destinations).toEqual(counts.destinations)
    expect(counts.nearlyFull).toBe(false)
  })

  test('is nearly full beyond half of what a set holds', () => {
    expect([512, 513].map((count) => parseRefused({ nftables: [set('tcp4', count)] }).nearlyFull)).toEqual([false, true])
  })
})

import { describe, expect, test } from 'vitest'
import { Ledger, type RequestSeen } from '../../src/proxy/ledger.ts'
import { GATEWAY_EVENTS, type GatewayEvent } from '../../src/wire/events.ts'

const seen = (more: Partial<RequestSeen> = {}): RequestSeen => ({ plugin: 'seo', method: 'GET', path: '/api/x/seo/a', query: null, status: 200, ms: 1.6, bytesIn: 0, bytesOut: 5, client: '127.0.0.1', who: 'admin via token', requestId: 'id', anonymous: false, ...more })

function ledger(now: () => number = () => 0): { ledger: Ledger; events: GatewayEvent[] } {
  const events: GatewayEvent[] = []
  return { events, ledger: new Ledger((event) => void events.push(GATEWAY_EVENTS.parse(event)), now) }
}

describe('requests', () => {
  test('what writes and what is public goes on record one by one, reads as counts per plugin', () => {
    const { ledger: book, events } = ledger()
    for (const method of ['POST', 'PUT', 'DELETE', 'PROPPATCH']) book.request(seen({ method }))
    book.request(seen({ anonymous: true, who: 'anonymous' }))
    expect(events.map((event) => event.type === 'http.request' && event.method)).toEqual(['POST', 'PUT', 'DELETE', 'PROPPATCH', 'GET'])
    expect(events[0]).toEqual({ type: 'http.request', plugin: 'seo', method: 'POST', path: '/api/x/seo/a', query: null, status: 200, ms: 2, bytesIn: 0, bytesOut: 5, client: '127.0.0.1', who: 'admin via token', requestId: 'id' })
    events.length = 0
    book.request(seen())
    book.request(seen({ status: 502 }))
    book.request(seen({ plugin: 'cron', method: 'HEAD' }))
    expect(events).toEqual([])
    book.flush()
    expect(events).toEqual([{ type: 'http.count', plugin: 'seo', requests: 2, failed: 1 }, { type: 'http.count', plugin: 'cron', requests: 1, failed: 0 }])
    book.flush()
    expect(events).toHaveLength(2)
  })
  test('texts are made printable and fit the record', () => {
    const { ledger: book, events } = ledger()
    book.request(seen({ method: 'POST', path: `/${'a'.repeat(9_000)}\u001b[2J`, query: '\u001b'.repeat(9_000) }))
    book.denied('/\u202e', 'x', 'no credentials')
    expect(events).toHaveLength(2)
    expect(JSON.stringify(events)).not.toMatch(/[\u001b\u202e]/)
  })
})

describe('refusals', () => {
  test('the first at once, repeats as one record with their number', () => {
    const { ledger: book, events } = ledger()
    for (let i = 0; i < 5; i++) book.denied(`/${i}`, 'a', 'no credentials')
    book.denied('/x', 'b', 'no credentials')
    expect(events).toHaveLength(2)
    book.flush()
    expect(events.slice(2)).toEqual([{ type: 'access.denied', path: '/4', client: 'a', reason: 'no credentials', coalesced: 4 }])
  })
  test('ten thousand addresses share a row: the log does not grow with them, and none is lost', () => {
    const { ledger: book, events } = ledger()
    for (let i = 0; i < 10_000; i++) book.denied('/', `c${i}`, 'a wrong token')
    book.flush()
    expect(events.length).toBeLessThan(300)
    expect(events.reduce((sum, event) => sum + (event.type === 'access.denied' ? Math.max(1, event.coalesced) : 0), 0)).toBe(10_000)
  })
})

test('a token is on record once per address and plugin in twelve hours, a link each time', () => {
  let now = 0
  const { ledger: book, events } = ledger(() => now)
  for (let i = 0; i < 3; i++) book.granted('seo', 'a', 'token')
  book.granted('cron', 'a', 'token')
  book.granted('seo', 'a', 'one-time-link')
  book.granted('seo', 'a', 'one-time-link')
  expect(events).toHaveLength(4)
  now = 12 * 3_600_000
  book.granted('seo', 'a', 'token')
  expect(events).toHaveLength(5)
})

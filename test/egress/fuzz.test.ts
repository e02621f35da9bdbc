import { describe, expect, test } from 'vitest'
import { fuzzClientHello, fuzzDns, fuzzHttpHost } from '../fuzz/egress-parsers.ts'

/** The short form of test/fuzz/egress.ts; each outcome that counts must be met, or the inputs are worth nothing. */
describe('a seeded random run breaks no promise of', () => {
  test('the TLS hello reader', () => {
    const counts = fuzzClientHello(60_000, 7)
    for (const outcome of ['hello', 'more', 'not-tls', 'tls-malformed', 'tls-oversized', 'tls-sslv2', 'sni-malformed', 'sni-several']) expect(counts[outcome], outcome).toBeGreaterThan(10)
  })
  test('the HTTP reader', () => {
    const counts = fuzzHttpHost(30_000, 7)
    for (const outcome of ['passed', 'waiting', 'http-malformed', 'http-host-other', 'http-no-host', 'http-body-ambiguous']) expect(counts[outcome], outcome).toBeGreaterThan(10)
  })
  test('the DNS answers', () => {
    const counts = fuzzDns(60_000, 7)
    for (const outcome of ['address', 'NOERROR', 'NXDOMAIN', 'FORMERR', 'NOTIMP', 'REFUSED', 'no reply']) expect(counts[outcome], outcome).toBeGreaterThan(10)
  })
})

import { describe, expect, test } from 'vitest'
import fc from 'fast-check'
import { parseDestination } from '../../src/cli/destination.ts'
import { CordonError } from '../../src/errors.ts'
import { compileMatch } from '../../src/policy/egress.ts'

describe('a destination on the command line', () => {
  test.each([
    ['API.Example.org.:443', 'api.example.org', 443], ['*.example.org:8443', '*.example.org', 8443], ['host.internal:5432', 'host.internal', 5432], ['public:443', 'public', 443],
    ['10.0.5.7/24:5432', null, null], ['10.0.5.0/24:5432', '10.0.5.0/24', 5432], ['10.0.5.7:5432', '10.0.5.7/32', 5432], ['[fd00::]/64:443', 'fd00::/64', 443], ['[FD00:0::7]:443', 'fd00::7/128', 443],
    ['api.example.org', 'api.example.org', null], ['[fd00::7]', 'fd00::7/128', null], ['10.0.0.0/8', '10.0.0.0/8', null],
  ])('%s', (written, text, port) => {
    if (text === null) expect(() => parseDestination(written)).toThrow(expect.objectContaining({ code: 'EGRESS_BAD_DESTINATION' }))
    else expect(parseDestination(written)).toMatchObject({ text, port })
  })

  test.each([
    '', ':443', 'a b:443', 'https://api.example.org', 'api.example.org:0', 'api.example.org:65536', 'api.example.org:53', 'fd00::7:443', '[fd00::7:443', '[10.0.0.1]:443', '10.0.0.1/33:1', '1.2:443', '*:443',
    'a.*.org:443', 'localhost:80', '_x.example.org:443', '[fe80::1%eth0]:443', 'api.example.org:443\n:80', 'a\u0000b:1',
  ])('%j is refused with a reason', (written) => {
    expect(() => parseDestination(written)).toThrow(expect.objectContaining({ code: 'EGRESS_BAD_DESTINATION' }))
  })

  test('whatever is accepted is what a rule would say, in one spelling', () => {
    const text = fc.oneof(fc.string({ maxLength: 24 }), fc.stringMatching(/^[a-z0-9.:[\]/*-]{0,24}$/))
    fc.assert(fc.property(text, (written) => {
      try {
        const { text: said, port } = parseDestination(written)
        expect('why' in compileMatch(said.includes('/') ? { cidr: said } : { host: said })).toBe(false)
        expect(parseDestination(said.includes(':') ? `[${said.replace('/', ']/')}` : said).text).toBe(said)
        expect(port === null || (port > 0 && port < 65_536 && port !== 53)).toBe(true)
      } catch (error) {
        if (!(error instanceof CordonError)) throw error
      }
    }), { seed: 20261120, numRuns: 5000 })
  })
})

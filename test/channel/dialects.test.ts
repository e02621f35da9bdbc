import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeMessage, encodeAnswer, encodeUnknown } from '../../src/channel/dialects.ts'

describe('decodeMessage', () => {
  it.each([
    ['T', '{"type":"request","id":1,"call":{"method":"m","params":{"a":1}}}', { kind: 'call', dialect: 'T', id: 1, method: 'm', params: { a: 1 } }],
    ['T without params', '{"type":"request","id":1,"call":{"method":"m"}}', { kind: 'call', dialect: 'T', id: 1, method: 'm', params: {} }],
    ['L', '{"type":"request","id":7,"method":"m","params":{}}', { kind: 'call', dialect: 'L', id: 7, method: 'm', params: {} }],
    ['L with params null', '{"type":"request","id":7,"method":"m","params":null}', { kind: 'call', dialect: 'L', id: 7, method: 'm', params: {} }],
    ['Y', '{"id":"9b2e","method":"m","params":{}}', { kind: 'call', dialect: 'Y', id: '9b2e', method: 'm', params: {} }],
    ['Y by its missing type', '{"id":3,"method":"m","params":{}}', { kind: 'call', dialect: 'Y', id: 3, method: 'm', params: {} }],
    ['Y by its string id', '{"type":"request","id":"a","method":"m","params":{}}', { kind: 'call', dialect: 'Y', id: 'a', method: 'm', params: {} }],
    ['T where a method stands beside the call', '{"type":"request","id":1,"method":"x","call":{"method":"m"}}', { kind: 'call', dialect: 'T', id: 1, method: 'm', params: {} }],
    ['an id of 64 bits', '{"type":"request","id":18446744073709551615,"method":"m"}', { kind: 'call', dialect: 'L', id: 18446744073709551615n, method: 'm', params: {} }],
    ['an id of 54 bits beside another id', '{"type":"request","params":{"id":1},"id":9007199254740993,"method":"m"}', { kind: 'call', dialect: 'L', id: 9007199254740993n, method: 'm', params: { id: 1 } }],
    ['an unknown type', '{"type":"bogus","id":4}', { kind: 'unknown', id: 4, reason: 'an unknown type' }],
    ['a call without method', '{"type":"request","id":4,"call":{}}', { kind: 'unknown', id: 4, reason: '`call` without a method' }],
    ['neither call nor method', '{"type":"request","id":4}', { kind: 'unknown', id: 4, reason: 'neither `call` nor `method`' }],
    ['text that is not JSON with an id', '{"type":"request","id": 12, oops', { kind: 'unknown', id: 12n, reason: 'not JSON' }],
  ])('reads %s', (_, text, expected) => {
    expect(decodeMessage(text)).toEqual(expected)
  })

  it.each([
    '', 'hello', '[]', 'null', '1', '{}', '{"id":null,"method":"m"}', '{"id":-1,"method":"m"}', '{"id":1.5,"method":"m"}', '{"id":true,"method":"m"}',
    '{"id":18446744073709551616,"method":"m"}', '{"id":1e300,"method":"m"}', '{"id":[1],"method":"m"}', '{"type":"bogus","id":"x"}',
    `{"id":"${'x'.repeat(129)}","method":"m"}`, '{"id":1.5, oops', '{"id":-1, oops', `${'['.repeat(100_000)}`,
    `{"id":18446744073709551615,"method":"m","params":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
  ])('ignores %s', (text) => {
    expect(decodeMessage(text)).toMatchObject({ kind: 'ignore' })
  })

  it('does not read a long message twice for an id that needs it', () => {
    const text = (more: string): string => `{"type":"request","id":18446744073709551615,"method":"x","params":[${more}1]}`
    expect(decodeMessage(text('1,'.repeat(1000)))).toMatchObject({ kind: 'call', id: 18446744073709551615n })
    expect(decodeMessage(text('1,'.repeat(40_000)))).toEqual({ kind: 'ignore', reason: 'no usable id' })
  })
  it('never throws, whatever the text', () => {
    const envelope = fc.record({ type: fc.constantFrom('request', 'x', undefined), id: fc.jsonValue(), call: fc.jsonValue(), method: fc.jsonValue(), params: fc.jsonValue() }, { requiredKeys: [] })
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), envelope.map((e) => JSON.stringify(e))), (text) => {
        expect(decodeMessage(text).kind).toMatch(/^(call|unknown|ignore)$/)
      }),
      { seed: 11, numRuns: 3000 },
    )
  })
})

describe('encodeAnswer', () => {
  it('repeats the method in T and has exactly one of result and error in L and Y', () => {
    expect(encodeAnswer('T', 1, 'list_projects', { ok: [] })).toBe('{"type":"response","id":1,"outcome":{"ok":{"method":"list_projects","result":[]}}}')
    expect(encodeAnswer('T', 1, 'm', { code: 'not_found', message: 'no' })).toBe('{"type":"response","id":1,"outcome":{"err":{"code":"not_found","message":"no"}}}')
    expect(encodeAnswer('L', 2, 'm', { ok: [] })).toBe('{"type":"response","id":2,"result":[]}')
    expect(encodeAnswer('L', 2, 'm', { code: 'internal', message: 'x' })).toBe('{"type":"response","id":2,"error":{"code":"internal","message":"x"}}')
    expect(encodeAnswer('Y', 'u-1', 'm', { ok: {} })).toBe('{"type":"response","id":"u-1","result":{}}')
  })

  it('echoes an id with its JSON type and all its digits', () => {
    expect(encodeAnswer('L', 18446744073709551615n, 'm', { ok: 1 })).toContain('"id":18446744073709551615,')
    expect(encodeAnswer('Y', '7', 'm', { ok: 1 })).toContain('"id":"7",')
    expect(encodeAnswer('Y', 'a"\n', 'm', { ok: 1 })).toContain('"id":"a\\"\\n",')
  })

  it('tells both kinds of decoder about a message that it does not know', () => {
    const error = { code: 'method_not_found', message: expect.any(String) as string }
    expect(JSON.parse(encodeUnknown(5))).toEqual({ type: 'response', id: 5, error, outcome: { err: error } })
  })
})

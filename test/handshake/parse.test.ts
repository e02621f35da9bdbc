import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CordonError } from '../../src/errors.ts'
import { parseFirstLine, parseReadyLine } from '../../src/handshake/parse.ts'
import { helloLine, manifestLine, MINIMAL, readyLine } from './manifests.ts'

const FULL = {
  name: 'full-1',
  version: '2.0.0-rc.1+b',
  display_name: 'Full',
  description: '',
  nav: [{ label: 'L', icon: 'Box', section: 'project', path: '/p', order: 4294967295 }],
  ui: { entry_js: 'a.js', css: ['a.css'], routes: [{ path: '/', title: 'T' }] },
  requires_db: false,
  requires_host_data_access: false,
  health_path: '/healthz',
  hide_header: true,
  public_paths: ['/hooks'],
  capabilities: ['api_read'],
  host_permissions: ['api_read', 'events_read'],
  events: ['deployment.*'],
}

describe('the first line', () => {
  it('fills every default of a minimal manifest and keeps an absent host_permissions apart from an empty one', () => {
    expect(parseFirstLine(helloLine(), '2')).toEqual({
      generation: '2',
      manifest: {
        ...MINIMAL, display_name: null, description: null, nav: [], ui: null, requires_db: false, requires_host_data_access: false,
        health_path: '/health', hide_header: false, public_paths: [], capabilities: [], host_permissions: null, events: [],
      },
    })
    expect(parseFirstLine(helloLine({ ...MINIMAL, host_permissions: [] }), '2').manifest.host_permissions).toEqual([])
  })

  it('keeps every field of a full manifest and ignores unknown ones', () => {
    expect(parseFirstLine(helloLine({ ...FULL, later: 1 }, { extra: true }), '2').manifest).toEqual(FULL)
    expect(parseFirstLine(manifestLine({ ...FULL, later: 1 }), '1').manifest).toEqual(FULL)
  })

  it('accepts a flattened manifest from a start with generation 2 arguments, and takes it for generation 1', () => {
    expect(parseFirstLine(manifestLine(), '2').generation).toBe('1')
  })

  it('takes an absent requires_db for true only where the plugin was started with a database argument', () => {
    expect(parseFirstLine(manifestLine(), '1').manifest.requires_db).toBe(false)
    expect(parseFirstLine(manifestLine(), '1db').manifest.requires_db).toBe(true)
    expect(parseFirstLine(manifestLine({ ...MINIMAL, requires_db: false }), '1db').manifest.requires_db).toBe(false)
  })

  it('tolerates a carriage return before the newline', () => {
    expect(parseFirstLine(Buffer.concat([helloLine(), Buffer.from('\r')]), '2').generation).toBe('2')
  })

  const malformed: [string, Buffer | string, string][] = [
    ['nothing', '', 'HANDSHAKE_MALFORMED'],
    ['blanks', ' \t\r', 'HANDSHAKE_MALFORMED'],
    ['log text', 'starting up…', 'HANDSHAKE_MALFORMED'],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), 'HANDSHAKE_MALFORMED'],
    ['an overlong UTF-8 form', Buffer.from([0x22, 0xc0, 0xaf, 0x22]), 'HANDSHAKE_MALFORMED'],
    ['a byte order mark', Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), helloLine()]), 'HANDSHAKE_MALFORMED'],
    ['half an object', '{"type":"hello"', 'HANDSHAKE_MALFORMED'],
    ['two objects', '{}{}', 'HANDSHAKE_MALFORMED'],
    ['a list', '[]', 'HANDSHAKE_MALFORMED'],
    ['null', 'null', 'HANDSHAKE_MALFORMED'],
    ['a string', '"hello"', 'HANDSHAKE_MALFORMED'],
    ['no type', '{}', 'HANDSHAKE_MALFORMED'],
    ['another type', '{"type":"ready","ready":true,"has_ui":false}', 'HANDSHAKE_MALFORMED'],
    ['a type that is not a string', '{"type":["hello"]}', 'HANDSHAKE_MALFORMED'],
    ['deep nesting', '['.repeat(200_000), 'HANDSHAKE_MALFORMED'],
    ['no version', JSON.stringify({ type: 'hello', manifest: MINIMAL }), 'HANDSHAKE_VERSION'],
    ['version 1', helloLine(MINIMAL, { protocol_version: 1 }), 'HANDSHAKE_VERSION'],
    ['version 3', helloLine(MINIMAL, { protocol_version: 3 }), 'HANDSHAKE_VERSION'],
    ['version "2"', helloLine(MINIMAL, { protocol_version: '2' }), 'HANDSHAKE_VERSION'],
    ['version null', helloLine(MINIMAL, { protocol_version: null }), 'HANDSHAKE_VERSION'],
    ['version 2.5', helloLine(MINIMAL, { protocol_version: 2.5 }), 'HANDSHAKE_VERSION'],
    ['a flattened hello', JSON.stringify({ type: 'hello', protocol_version: 2, ...MINIMAL }), 'HANDSHAKE_MANIFEST'],
    ['a manifest that is null', helloLine(MINIMAL, { manifest: null }), 'HANDSHAKE_MANIFEST'],
    ['a manifest that is a list', helloLine(MINIMAL, { manifest: [] }), 'HANDSHAKE_MANIFEST'],
  ]
  it.each(malformed)('refuses %s', (_, line, code) => {
    expect(() => parseFirstLine(Buffer.from(line), '2')).toThrowError(expect.objectContaining({ code }) as Error)
  })

  it('refuses hello from a start with generation 1 arguments', () => {
    expect(() => parseFirstLine(helloLine(), '1')).toThrowError(expect.objectContaining({ code: 'HANDSHAKE_MALFORMED' }) as Error)
  })

  const names = ['', 'A', 'a_b', '-a', 'a-', 'a'.repeat(65), 'a/b', '..', 'a.b', 'plugins', 'cordon', 'ä', 'a\n', 'a b', '%61', 1, null, ['a'], {}]
  it.each(names.map((name) => [JSON.stringify(name), name]))('refuses the name %s', (_, name) => {
    expect(() => parseFirstLine(helloLine({ ...MINIMAL, name }), '2')).toThrowError(expect.objectContaining({ code: 'HANDSHAKE_MANIFEST' }) as Error)
  })
  it.each(['a', '0', 'a-b', 'a--b', 'a'.repeat(64)])('accepts the name %s', (name) => {
    expect(parseFirstLine(helloLine({ ...MINIMAL, name }), '2').manifest.name).toBe(name)
  })

  const fields: [string, unknown][] = [
    ['version', undefined], ['version', null], ['version', ''], ['version', '1 0'], ['version', 'v'.repeat(65)], ['version', 1],
    ['display_name', 1], ['display_name', 'x'.repeat(201)], ['description', []], ['description', 'x'.repeat(4001)],
    ['nav', null], ['nav', {}], ['nav', [{}]], ['nav', [{ label: 'l', icon: 'i', section: 'other', path: '/', order: 1 }]],
    ['nav', [{ label: 'l', icon: 'i', section: 'platform', path: '/', order: -1 }]],
    ['nav', [{ label: 'l', icon: 'i', section: 'platform', path: '/', order: 4294967296 }]],
    ['nav', [{ label: 'l', icon: 'i', section: 'platform', path: '/', order: 1.5 }]],
    ['nav', [{ label: null, icon: 'i', section: 'platform', path: '/', order: 1 }]],
    ['nav', Array.from({ length: 65 }, () => ({ label: 'l', icon: 'i', section: 'platform', path: '/', order: 1 }))],
    ['ui', {}], ['ui', []], ['ui', { entry_js: 1 }], ['ui', { entry_js: 'a', css: null }], ['ui', { entry_js: 'a', routes: [{ path: '/' }] }],
    ['requires_db', null], ['requires_db', 'true'], ['requires_db', 0], ['requires_host_data_access', null],
    ['health_path', null], ['health_path', 1], ['hide_header', null], ['hide_header', 1],
    ['public_paths', null], ['public_paths', '/'], ['public_paths', [1]], ['public_paths', Array.from({ length: 65 }, () => '/a')],
    ['capabilities', null], ['capabilities', ['api_admin']], ['capabilities', 'api_read'],
    ['host_permissions', null], ['host_permissions', ['root']], ['host_permissions', [null]], ['host_permissions', 'events_read'],
    ['events', null], ['events', [1]], ['events', ['x'.repeat(129)]],
  ]
  it.each(fields.map(([field, value]) => [field, JSON.stringify(value)?.slice(0, 60) ?? 'absent', value]))('refuses %s = %s and names the field', (field, _, value) => {
    expect(() => parseFirstLine(helloLine({ ...MINIMAL, [field as string]: value }), '2')).toThrowError(
      expect.objectContaining({ code: 'HANDSHAKE_MANIFEST', message: expect.stringContaining(`manifest.${field as string}`) as string }) as Error,
    )
  })

  it('never lets control characters of a plugin into a message', () => {
    for (const line of ['\u001b[2Jboo', '{"type":"\\u001b[2J"}']) {
      try {
        parseFirstLine(Buffer.from(line), '2')
        expect.unreachable()
      } catch (error) {
        expect((error as Error).message).not.toMatch(/[\u0000-\u001f]/)
      }
    }
  })

  it('answers any bytes and any JSON with a value or a HANDSHAKE error', () => {
    const anyLine = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((b) => Buffer.from(b)),
      fc.json().map((s) => Buffer.from(s)),
      fc.dictionary(fc.constantFrom(...Object.keys(FULL), '__proto__', 'x'), fc.jsonValue()).map((m) => helloLine({ ...MINIMAL, ...m })),
      fc.dictionary(fc.constantFrom('type', 'ready', 'has_ui', 'protocol_version', 'openapi'), fc.jsonValue()).map((m) => readyLine(m)),
    )
    fc.assert(
      fc.property(anyLine, fc.constantFrom('2', '1', '1db'), (line, style) => {
        for (const parse of [() => parseFirstLine(line, style), () => parseReadyLine(line, '2'), () => parseReadyLine(line, '1')]) {
          try {
            parse()
          } catch (error) {
            expect(error).toBeInstanceOf(CordonError)
            expect((error as CordonError).code).toMatch(/^HANDSHAKE_/)
            expect((error as CordonError).message.length).toBeLessThan(1000)
          }
        }
      }),
      { seed: 7, numRuns: 3000 },
    )
  })
})

describe('the ready line', () => {
  it('is accepted with and without an OpenAPI 3 document', () => {
    expect(parseReadyLine(readyLine(), '2')).toEqual({ hasUi: false, openapi: null, openapiProblem: null })
    const openapi = { openapi: '3.1.0', paths: {} }
    expect(parseReadyLine(readyLine({ openapi, has_ui: true }), '2')).toEqual({ hasUi: true, openapi, openapiProblem: null })
  })

  it('needs no version in generation 1', () => {
    expect(parseReadyLine(Buffer.from('{"type":"ready","ready":true,"has_ui":true}'), '1').hasUi).toBe(true)
  })

  it.each([
    ['null', null], ['a string', 'x'], ['a list', []], ['version 2', { openapi: '2.0', paths: {} }], ['no paths', { openapi: '3.0.0' }],
    ['deep nesting', { openapi: '3.0.0', paths: JSON.parse(`${'{"a":'.repeat(100)}1${'}'.repeat(100)}`) as object }],
    ['too many values', { openapi: '3.0.0', paths: { a: Array.from({ length: 100_001 }, () => 0) } }],
  ])('ignores an unusable OpenAPI document (%s), says why, and lets the plugin start', (_, openapi) => {
    const ready = parseReadyLine(readyLine({ openapi }), '2')
    expect(ready.openapi).toBeNull()
    expect(ready.openapiProblem).toEqual(expect.any(String))
  })

  it.each<[string, string | Buffer, string]>([
    ['ready: false', readyLine({ ready: false }), 'HANDSHAKE_NOT_READY'],
    ['no ready', JSON.stringify({ type: 'ready', has_ui: true, protocol_version: 2 }), 'HANDSHAKE_MALFORMED'],
    ['ready: 1', readyLine({ ready: 1 }), 'HANDSHAKE_MALFORMED'],
    ['ready: null', readyLine({ ready: null }), 'HANDSHAKE_MALFORMED'],
    ['has_ui: null', readyLine({ has_ui: null }), 'HANDSHAKE_MALFORMED'],
    ['no has_ui', JSON.stringify({ type: 'ready', ready: true, protocol_version: 2 }), 'HANDSHAKE_MALFORMED'],
    ['no version', '{"type":"ready","ready":true,"has_ui":true}', 'HANDSHAKE_VERSION'],
    ['version 1', readyLine({ protocol_version: 1 }), 'HANDSHAKE_VERSION'],
    ['another type', readyLine({ type: 'hello' }), 'HANDSHAKE_MALFORMED'],
    ['a blank line', '', 'HANDSHAKE_MALFORMED'],
    ['log text', 'listening on …', 'HANDSHAKE_MALFORMED'],
    ['not UTF-8', Buffer.from([0xff]), 'HANDSHAKE_MALFORMED'],
  ])('refuses %s', (_, line, code) => {
    expect(() => parseReadyLine(Buffer.from(line), '2')).toThrowError(expect.objectContaining({ code }) as Error)
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { hostDocument } from '../../src/proxy/openapi-host.ts'
import { mergeOpenApi } from '../../src/proxy/openapi.ts'
import type { Endpoint } from '../../src/registry/registry.ts'

// The merger looks at the name and the document alone.
const plugin = (name: string, openapi: unknown) => ({ plugin: name as PluginName, openapi }) as unknown as Endpoint
const merge = (...plugins: Endpoint[]) => mergeOpenApi(hostDocument('1'), plugins)
const doc = (more: object) => ({ openapi: '3.1.0', info: { title: 't', version: '1' }, ...more })

describe('merging', () => {
  test('paths get the prefix, operations their plugin as tag and in front of their id', () => {
    const { paths, tags } = merge(plugin('seo', doc({ paths: { '/': { get: { operationId: 'home', tags: ['x'], responses: {} } }, '/a/{id}': { post: { responses: {} } } } })))
    expect(paths['/x/seo']).toEqual({ get: { operationId: 'seo.home', tags: ['seo'], responses: {} } })
    expect(paths['/x/seo/a/{id}']).toEqual({ post: { tags: ['seo'], responses: {} } })
    expect(tags.map((tag) => tag.name)).toEqual(['host', 'seo'])
  })
  test('two plugins with one component name keep their own, and their references follow', () => {
    const one = (type: string) => doc({ paths: { '/a': { get: { responses: { 200: { description: '', content: { 'application/json': { schema: { $ref: '#/components/schemas/Item' } } } } } } } }, components: { schemas: { Item: { type } } } })
    const { components, paths } = merge(plugin('a', one('string')), plugin('b', one('number')))
    expect(components['schemas']).toMatchObject({ 'a.Item': { type: 'string' }, 'b.Item': { type: 'number' } })
    expect(JSON.stringify(paths['/x/b/a'])).toContain('"$ref":"#/components/schemas/b.Item"')
  })
  test('a plugin cannot replace what is the host\'s: paths, components, security, servers', () => {
    const host = hostDocument('1')
    const { paths, components, security, servers } = merge(plugin('seo', doc({
      servers: [{ url: 'https://evil.example' }], security: [], paths: { '/../plugins': { get: {} }, '/x/plugins': { get: { security: [], servers: [{ url: 'https://evil.example' }], responses: {} } } },
      components: { schemas: { Problem: { type: 'null' } }, securitySchemes: { bearer: { type: 'apiKey' } } },
    })))
    expect([security, servers, components['securitySchemes'], components['schemas']?.['Problem']]).toEqual([host.security, host.servers, host.components['securitySchemes'], host.components['schemas']?.['Problem']])
    expect(paths['/x/plugins']).toEqual(host.paths['/x/plugins'])
    expect(paths['/x/seo/x/plugins']).toEqual({ get: { tags: ['seo'], responses: {} } })
  })
  test('references to files, addresses, the host\'s components and nothing become "anything"', () => {
    for (const $ref of ['https://evil.example/x.json', 'file:///etc/passwd', '#/components/schemas/Problem', '#/paths/~1a', '#/components/schemas/Missing', '//evil', '']) {
      const { components } = merge(plugin('seo', doc({ components: { schemas: { A: { $ref } } } })))
      expect(components['schemas']?.['seo.A']).toEqual({})
    }
  })
  test('names that an author chose are not taken for words of the format', () => {
    const properties = { links: { type: 'string' }, servers: { type: 'string' }, mapping: { type: 'object' }, discriminator: { type: 'string' }, properties: { type: 'object', properties: { security: { type: 'string' } } } }
    const { components } = merge(plugin('seo', doc({ components: { schemas: { A: { type: 'object', properties } } } })))
    expect(components['schemas']?.['seo.A']).toEqual({ type: 'object', properties })
  })
  test('a discriminator\'s mapping follows its schemas', () => {
    const { components } = merge(plugin('seo', doc({ components: { schemas: { A: { discriminator: { propertyName: 'kind', mapping: { b: '#/components/schemas/B', c: 'B', d: 'https://evil.example' } } }, B: {} } } })))
    expect(components['schemas']?.['seo.A']).toEqual({ discriminator: { propertyName: 'kind', mapping: { b: '#/components/schemas/seo.B', c: '#/components/schemas/seo.B' } } })
  })
  test('paths that no caller could reach are not described', () => {
    const { paths } = merge(plugin('seo', doc({ paths: { '/_temps/channel': { get: {} }, '/_events': { post: {} }, '/a/../b': { get: {} }, 'https://evil.example': { get: {} }, '/ok': { get: {} } } })))
    expect(Object.keys(paths).filter((path) => path.startsWith('/x/seo'))).toEqual(['/x/seo/ok'])
  })
})

describe('hostile documents are left out as a whole, and named', () => {
  const deep = (n: number) => JSON.parse(`${'{"a":'.repeat(n)}1${'}'.repeat(n)}`) as unknown
  test.each([
    ['text', 'openapi'], ['a list', []], ['Swagger 2', { swagger: '2.0' }], ['no version', {}],
    ['too deep', doc({ components: { schemas: { A: deep(60) } } })],
    ['far too deep', doc({ components: { schemas: { A: deep(5_000) } } })],
    ['too many values', doc({ components: { schemas: { A: { enum: Array.from({ length: 60_000 }, () => 1) } } } })],
    ['too many paths', doc({ paths: Object.fromEntries(Array.from({ length: 600 }, (_, i) => [`/p${i}`, {}])) })],
    ['too much text', doc({ components: { schemas: Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`A${i}`, { description: 'x'.repeat(9_000) }])) } })],
  ])('%s', (_what, document) => {
    const merged = merge(plugin('bad', document), plugin('good', doc({ paths: { '/a': { get: {} } } })))
    expect(merged['x-cordon-omitted'].map((row) => row.plugin)).toEqual(['bad'])
    expect(Object.keys(merged.paths).filter((path) => path.startsWith('/x/bad'))).toEqual([])
    expect(merged.paths['/x/good/a']).toBeDefined()
  })
  test('__proto__ in it changes no object', () => {
    const document = JSON.parse('{"openapi":"3.1.0","__proto__":{"polluted":1},"paths":{"__proto__":{"get":{}},"/a":{"get":{"__proto__":{"polluted":1}}}},"components":{"schemas":{"constructor":{"type":"string"}}}}') as unknown
    const merged = merge(plugin('seo', document))
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false)
    expect(JSON.stringify(merged)).not.toContain('polluted')
  })
  test('any JSON is merged or left out without throwing, and the result keeps the host\'s paths (seeded random run)', () => {
    const key = fc.constantFrom('openapi', 'paths', 'components', 'schemas', '/a', 'get', '$ref', 'properties', 'discriminator', 'mapping', '__proto__', 'toString', 'responses', 'parameters')
    const { any } = fc.letrec((tie) => ({ any: fc.oneof({ maxDepth: 6 }, fc.string(), fc.integer(), fc.constant(null), fc.array(tie('any'), { maxLength: 3 }), fc.dictionary(key, tie('any'), { maxKeys: 5 })) }))
    fc.assert(fc.property(any, any, (paths, components) => {
      const merged = merge(plugin('seo', doc({ paths, components })))
      expect(Object.keys(merged.paths)).toEqual(expect.arrayContaining(Object.keys(hostDocument('1').paths)))
      JSON.stringify(merged)
    }), { seed: 20261120, numRuns: 1_000 })
  })
})

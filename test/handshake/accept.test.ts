import { describe, expect, it } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { acceptManifest, effectivePermissions, sharedPublicPaths } from '../../src/handshake/accept.ts'
import { parseFirstLine } from '../../src/handshake/parse.ts'
import { helloLine, MINIMAL } from './manifests.ts'

const NAME = 'sample' as PluginName
const manifest = (more: object = {}) => parseFirstLine(helloLine({ ...MINIMAL, ...more }), '2').manifest
const refusal = (code: string) => expect.objectContaining({ code }) as Error

describe('acceptManifest', () => {
  it('accepts a plugin under the name that its policy says, without warnings', () => {
    expect(acceptManifest(manifest(), NAME)).toEqual([])
  })

  it('refuses another name with the line that mends it', () => {
    expect(() => acceptManifest(manifest({ name: 'other' }), NAME)).toThrowError(
      expect.objectContaining({ code: 'HANDSHAKE_NAME', message: expect.stringContaining('rename the policy file to other.yaml and write `plugin: other`') as string }) as Error,
    )
  })

  it('refuses what this host cannot give before any secret is sent', () => {
    expect(() => acceptManifest(manifest({ requires_db: true }), NAME)).toThrowError(refusal('HANDSHAKE_REQUIRES_DB'))
    expect(() => acceptManifest(manifest({ requires_host_data_access: true }), NAME)).toThrowError(refusal('HANDSHAKE_REQUIRES_HOST_DATA'))
  })

  it.each(['', 'health', '//health', '/_temps/channel', '/_events', '/a?b', '/a#b', '/%61', '/a\\b', '/../a', '/a.json', '/a\nb'])('refuses the health path %j', (path) => {
    expect(() => acceptManifest(manifest({ health_path: path }), NAME)).toThrowError(refusal('HANDSHAKE_HEALTH_PATH'))
  })

  it.each(['/', '/health', '/a/b_c-d', '/healthz'])('accepts the health path %s', (path) => {
    expect(acceptManifest(manifest({ health_path: path }), NAME)).toEqual([])
  })

  it.each([
    [{ host_permissions: ['api_read'] }, /api_read but capabilities does not/],
    [{ capabilities: ['api_write'] }, /api_write but host_permissions does not/],
    [{ events: ['*'], host_permissions: [] }, /lacks events_read/],
    [{ public_paths: ['/'] }, /opens nothing/],
    [{ public_paths: [''] }, /opens nothing/],
    [{ public_paths: ['/a/../b'] }, /opens nothing/],
    [{ public_paths: ['/%61'] }, /opens nothing/],
  ])('warns about %j and lets it start', (more, warning) => {
    expect(acceptManifest(manifest(more), NAME)).toEqual([expect.stringMatching(warning)])
  })
})

describe('sharedPublicPaths', () => {
  it.each<[string[], string[], string[]]>([
    [['/hooks'], ['/hooks'], ['/hooks']],
    [['/hooks'], ['/hooks/in'], ['/hooks/in']],
    [['/hooks/in'], ['/hooks'], ['/hooks/in']],
    [['/hooks'], ['/hooks-admin'], []],
    [['/hooks'], [], []],
    [[], ['/hooks'], []],
    [['/hooks'], ['/'], []],
    [['/hooks'], [''], []],
    [['/hooks'], ['/hooks/../admin'], []],
    [['/a/'], ['/a'], ['/a']],
  ])('policy %j and manifest %j open %j', (policy, declared, shared) => {
    expect(sharedPublicPaths(policy, declared)).toEqual(shared)
  })
})

describe('effectivePermissions', () => {
  it('is what was both declared and granted', () => {
    expect(effectivePermissions(manifest({ host_permissions: ['projects_read', 'events_read'] }), ['events_read', 'ai_generate'], 'grant')).toEqual(['events_read'])
    expect(effectivePermissions(manifest({ host_permissions: [] }), ['events_read'], 'grant')).toEqual([])
  })

  it('gives a plugin that declares nothing its grants only where the policy says so', () => {
    expect(effectivePermissions(manifest(), ['events_read'], 'deny')).toEqual([])
    expect(effectivePermissions(manifest(), ['events_read'], 'grant')).toEqual(['events_read'])
  })
})

import { describe, expect, it } from 'vitest'
import type { HostPermission } from '../../src/base/host-permissions.ts'
import type { PluginName } from '../../src/base/ids.ts'
import { answerCall, type CallContext } from '../../src/channel/calls.ts'
import { NO_ENTITIES, type HostDataProvider } from '../../src/channel/provider.ts'
import { parseManifest } from '../../src/handshake/parse-manifest.ts'

const ALL: HostPermission[] = ['ai_generate', 'projects_read', 'environments_read', 'deployments_read', 'api_read', 'api_write', 'events_read']

function context(permissions: readonly HostPermission[], more: { manifest?: object; provider?: Partial<HostDataProvider> } = {}): CallContext {
  const manifest = parseManifest({ name: 'sample', version: '1', ...more.manifest }, { requiresDbWhenAbsent: false })
  return { plugin: 'sample' as PluginName, manifest, permissions: () => permissions, provider: { ...NO_ENTITIES, ...more.provider } }
}

describe('the calls of a host without entities', () => {
  it.each([
    ['list_projects', {}, 'projects_read', { ok: [] }],
    ['get_project', { project_id: 1 }, 'projects_read', { code: 'not_found' }],
    ['get_environment', { environment_id: 1 }, 'environments_read', { code: 'not_found' }],
    ['list_environments', { project_id: 1 }, 'environments_read', { ok: [] }],
    ['get_deployment', { deployment_id: 1 }, 'deployments_read', { code: 'not_found' }],
    ['get_last_deployment', { project_id: 1 }, 'deployments_read', { code: 'not_found' }],
    ['get_last_deployment', { project_id: 1, environment_id: null }, 'deployments_read', { code: 'not_found' }],
    ['list_deployments', { project_id: 1, limit: 5 }, 'deployments_read', { ok: [] }],
    ['generate_ai', { purpose: 'p', prompt: 'x' }, 'ai_generate', { code: 'internal' }],
  ] as const)('%s %j is answered with its grant and denied without it', async (method, params, grant, expected) => {
    for (const dialect of ['T', 'L', 'Y'] as const) {
      expect(await answerCall(dialect, method, params, context([grant]))).toMatchObject(expected)
      expect(await answerCall(dialect, method, params, context(ALL.filter((p) => p !== grant)))).toMatchObject({ code: 'permission_denied' })
    }
  })

  it.each([
    ['get_project', {}], ['get_project', { project_id: '1' }], ['get_project', { project_id: 2147483648 }], ['get_project', { project_id: 1.5 }],
    ['get_project', []], ['get_project', 'x'], ['list_environments', { project_id: null }], ['list_deployments', { project_id: 1, limit: 'x' }],
    ['list_projects', 5], ['generate_ai', { purpose: 'a b', prompt: 'x' }], ['generate_ai', { purpose: 'p', prompt: 'ä'.repeat(40_000) }],
    ['api_call', { method: 'HEAD', path: '/projects' }], ['api_call', { method: 'GET', path: '/../etc' }], ['api_call', { method: 'GET', path: '/users' }],
  ])('%s refuses the params %j', async (method, params) => {
    expect(await answerCall('T', method, params, context(ALL))).toMatchObject({ code: 'invalid_params' })
  })

  it.each(['', 'nope', 'toString', '__proto__', 'constructor', 'GET_PROJECT'])('does not know the method %j', async (method) => {
    expect(await answerCall('L', method, {}, context(ALL))).toMatchObject({ code: 'method_not_found' })
  })

  it('passes limits on, cut to 100, and null for every environment', async () => {
    const asked: unknown[] = []
    const provider = { listDeployments: async (...args: unknown[]) => (asked.push(args), []), listProjects: async (limit: number) => (asked.push(limit), []) }
    await answerCall('L', 'list_deployments', { project_id: 3 }, context(ALL, { provider }))
    await answerCall('L', 'list_deployments', { project_id: 3, environment_id: 4, limit: 1000 }, context(ALL, { provider }))
    await answerCall('T', 'list_projects', {}, context(ALL, { provider }))
    expect(asked).toEqual([[3, null, 20], [3, 4, 100], 100])
  })

  it('reports complete capabilities to a plugin that may do nothing', async () => {
    const answer = await answerCall('T', 'get_host_capabilities', {}, context([]))
    expect(answer).toEqual({
      ok: {
        actor: { id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/) as string, name: 'sample', active: true },
        permissions: [],
        ai: { configured: false, reason: expect.any(String) as string, setup_path: '/settings/ai-providers', daily_call_limit: 100, max_output_tokens: 1024, max_prompt_bytes: 65536 },
      },
    })
    expect(await answerCall('T', 'get_host_capabilities', {}, context([]))).toEqual(answer)
  })

  it('answers api_call in the order grant, path, capability, user', async () => {
    const read = { method: 'GET', path: '/projects/1', actor: 'token' }
    const able = { manifest: { capabilities: ['api_read', 'api_write'] } }
    expect(await answerCall('T', 'api_call', read, context(['api_write'], able))).toMatchObject({ code: 'permission_denied' })
    expect(await answerCall('T', 'api_call', { ...read, method: 'POST' }, context(['api_read'], able))).toMatchObject({ code: 'permission_denied' })
    expect(await answerCall('T', 'api_call', read, context(['api_read']))).toMatchObject({ code: 'permission_denied' })
    expect(await answerCall('T', 'api_call', read, context(['api_read'], able))).toMatchObject({ code: 'unauthenticated' })
    expect(await answerCall('L', 'api_call', read, context(ALL, able))).toMatchObject({ code: 'method_not_found' })
  })
})

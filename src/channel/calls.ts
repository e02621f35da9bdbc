import { createHash } from 'node:crypto'
import * as z from 'zod'
import type { HostPermission } from '../base/host-permissions.ts'
import type { PluginName } from '../base/ids.ts'
import type { Manifest } from '../handshake/manifest.ts'
import type { Dialect, Outcome } from './dialects.ts'
import type { HostDataProvider } from './provider.ts'

export interface CallContext {
  readonly plugin: PluginName
  readonly manifest: Manifest
  /** Declared ∩ granted; asked for every call, never remembered (protocol section 16). */
  permissions(): readonly HostPermission[]
  readonly provider: HostDataProvider
}

type Answer = (params: unknown, context: CallContext) => Promise<Outcome>

/**
 * Answer one call.
 * @param params attacker-controlled
 * @returns an outcome for everything that a plugin can send; rejects only when the provider does
 */
export async function answerCall(dialect: Dialect, method: string, params: unknown, context: CallContext): Promise<Outcome> {
  const answer = CALLS.get(method)
  // `unauthenticated` exists in T alone, so api_call does too (10.3, 10.5).
  if (answer === undefined || (method === 'api_call' && dialect !== 'T')) return { code: 'method_not_found', message: 'the host does not know this method' }
  return answer(params, context)
}

export function isKnownMethod(method: string): boolean {
  return CALLS.has(method)
}

const id = z.int32()
/** Above 100 is cut to 100, as in the reference; T has no limit at all for list_projects and ignores the key. */
const limit = (fallback: number) => z.int().min(1).nullish().transform((n) => Math.min(n ?? fallback, 100))
const environment = z.int32().nullish().transform((n) => n ?? null)

const API_CALL = z.object({
  method: z.enum(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']),
  path: z.string().max(2048),
  query: z.string().max(8192).nullish(),
  body: z.unknown().optional(),
  actor: z.string().max(4096).nullish(),
})

/** Protocol 10.7. Sizes are in bytes, the schema counts UTF-16 units first because that is cheap. */
const GENERATE_AI = z.object({
  purpose: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  prompt: z.string().max(65_536).refine((s) => Buffer.byteLength(s) <= 65_536),
  system: z.string().max(16_384).refine((s) => Buffer.byteLength(s) <= 16_384).nullish(),
  max_tokens: z.int().min(1).max(4096).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
})

const NO_AI = 'this host has no AI provider'

/** The closed table of 10.3: params, grant, answer. What is not here is `method_not_found`. */
const CALLS: ReadonlyMap<string, Answer> = new Map<string, Answer>([
  ['get_project', call(z.object({ project_id: id }), 'projects_read', async (p, c) => found(await c.provider.getProject(p.project_id)))],
  ['list_projects', call(z.object({ limit: limit(100) }), 'projects_read', async (p, c) => ({ ok: await c.provider.listProjects(p.limit) }))],
  ['get_environment', call(z.object({ environment_id: id }), 'environments_read', async (p, c) => found(await c.provider.getEnvironment(p.environment_id)))],
  ['list_environments', call(z.object({ project_id: id }), 'environments_read', async (p, c) => ({ ok: await c.provider.listEnvironments(p.project_id) }))],
  ['get_deployment', call(z.object({ deployment_id: id }), 'deployments_read', async (p, c) => found(await c.provider.getDeployment(p.deployment_id)))],
  ['get_last_deployment', call(z.object({ project_id: id, environment_id: environment }), 'deployments_read', async (p, c) =>
    found((await c.provider.listDeployments(p.project_id, p.environment_id, 1))[0] ?? null))],
  ['list_deployments', call(z.object({ project_id: id, environment_id: environment, limit: limit(20) }), 'deployments_read', async (p, c) =>
    ({ ok: await c.provider.listDeployments(p.project_id, p.environment_id, p.limit) }))],
  ['api_call', call(API_CALL, (p) => (p.method === 'GET' ? 'api_read' : 'api_write'), async (p, c) => answerApiCall(p, c))],
  ['get_host_capabilities', call(z.object({}), null, async (_, c) => ({ ok: hostCapabilities(c) }))],
  ['generate_ai', call(GENERATE_AI, 'ai_generate', async () => ({ code: 'internal', message: NO_AI }))],
])

function call<P>(params: z.ZodType<P>, grant: HostPermission | null | ((params: P) => HostPermission), answer: (params: P, context: CallContext) => Promise<Outcome>): Answer {
  return async (raw, context) => {
    const parsed = params.safeParse(raw)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      return { code: 'invalid_params', message: `${['params', ...(issue?.path ?? [])].join('.')}: ${issue?.message ?? 'invalid'}` }
    }
    const needed = typeof grant === 'function' ? grant(parsed.data) : grant
    if (needed !== null && !context.permissions().includes(needed)) {
      return { code: 'permission_denied', message: `this call needs ${needed}, which is not both declared in host_permissions and granted by the operator's policy` }
    }
    return answer(parsed.data, context)
  }
}

function found(value: unknown): Outcome {
  return value === null ? { code: 'not_found', message: 'there is no such entity on this host' } : { ok: value }
}

/** Protocol 10.6 in its order; this host has no users whose token could be redeemed, so the last check always fails (section 21). */
function answerApiCall(params: z.infer<typeof API_CALL>, context: CallContext): Outcome {
  if (!/^\/(?:projects|environments|deployments)(?:\/[0-9]{1,10})?$/.test(params.path)) {
    return { code: 'invalid_params', message: 'params.path: expected /projects, /environments or /deployments, optionally followed by one id' }
  }
  const capability = params.method === 'GET' ? 'api_read' : 'api_write'
  if (!context.manifest.capabilities.includes(capability)) return { code: 'permission_denied', message: `this call needs ${capability} in the manifest's capabilities` }
  return { code: 'unauthenticated', message: 'this host issues no actor tokens, so there is no user to act as' }
}

/** Protocol 10.5; all of `ai` is required by Rust even where nothing is configured. */
function hostCapabilities(context: CallContext): unknown {
  return {
    actor: { id: actorId(context.plugin), name: context.plugin, active: true },
    permissions: context.permissions(),
    ai: { configured: false, reason: NO_AI, setup_path: '/settings/ai-providers', daily_call_limit: 100, max_output_tokens: 1024, max_prompt_bytes: 65_536 },
  }
}

/** The same UUID (version 8, RFC 9562) for a name on every start, so that a plugin can tell that it is still itself. */
function actorId(plugin: PluginName): string {
  const hash = createHash('sha256').update(`cordon plugin actor ${plugin}`).digest()
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x80, 6)
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8)
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

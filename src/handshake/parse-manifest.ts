import * as z from 'zod'
import { HOST_PERMISSIONS } from '../base/host-permissions.ts'
import { isPluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { Manifest } from './manifest.ts'

const text = (max: number) => z.string().max(max)

/**
 * Protocol section 7. Unknown fields are ignored; an absent field takes its default; null only where the type allows it. The
 * caps are ours: no known plugin comes near them, and everything here is kept, listed and shown for the life of the run.
 */
const MANIFEST = z.object({
  name: z.string().refine(isPluginName, 'expected 1 to 64 of a-z, 0-9 and "-", not at either end, and not a reserved name ("plugins", "cordon")'),
  version: z.string().regex(/^[A-Za-z0-9.+-]{1,64}$/, 'expected 1 to 64 of A-Z, a-z, 0-9, ".", "+" and "-"'),
  display_name: text(200).nullable().default(null),
  description: text(4000).nullable().default(null),
  nav: z.array(z.object({
    label: text(200),
    icon: text(100),
    section: z.enum(['platform', 'settings', 'project']),
    path: text(1024),
    order: z.int().min(0).max(0xffff_ffff),
  })).max(64).default([]),
  ui: z.object({
    entry_js: text(1024),
    css: z.array(text(1024)).max(64).default([]),
    routes: z.array(z.object({ path: text(1024), title: text(200) })).max(256).default([]),
  }).nullable().default(null),
  requires_db: z.boolean().optional(),
  requires_host_data_access: z.boolean().default(false),
  health_path: text(256).default('/health'),
  hide_header: z.boolean().default(false),
  public_paths: z.array(text(256)).max(64).default([]),
  capabilities: z.array(z.enum(['api_read', 'api_write'])).max(16).default([]),
  // An absent key is not an empty list: the operator decides what such plugins get (section 16).
  host_permissions: z.array(z.enum(HOST_PERMISSIONS)).max(32).optional(),
  events: z.array(text(128)).max(128).default([]),
})

/**
 * @param value the manifest as JSON.parse gave it; attacker-controlled
 * @param options.requiresDbWhenAbsent the first P1 series meant true when it left `requires_db` out
 * @throws CordonError HANDSHAKE_MANIFEST naming the first field that is wrong
 */
export function parseManifest(value: unknown, options: { readonly requiresDbWhenAbsent: boolean }): Manifest {
  const result = MANIFEST.safeParse(value)
  if (result.success) {
    const { requires_db: requiresDb, host_permissions: permissions, ...rest } = result.data
    return { ...rest, requires_db: requiresDb ?? options.requiresDbWhenAbsent, host_permissions: permissions === undefined ? null : [...new Set(permissions)] }
  }
  const issue = result.error.issues[0]
  const where = ['manifest', ...(issue?.path ?? [])].join('.')
  throw new CordonError('HANDSHAKE_MANIFEST', `${printable(where)}: ${printable(issue?.message ?? 'invalid')}`)
}

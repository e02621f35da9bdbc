import type { HostPermission } from '../base/host-permissions.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { Manifest } from './manifest.ts'

/** The dev runner's rule (protocol section 9): nothing that a server could normalise into a reserved path. */
const HEALTH_PATH = /^\/(?!\/|_temps|_events)[A-Za-z0-9/_-]*$/

/**
 * Compare what a manifest claims with what the operator named, before any secret is sent.
 * @returns warnings, printable: the plugin starts, but something that it asks for cannot work
 * @throws CordonError HANDSHAKE_NAME, HANDSHAKE_REQUIRES_DB, HANDSHAKE_REQUIRES_HOST_DATA, HANDSHAKE_HEALTH_PATH
 */
export function acceptManifest(manifest: Manifest, plugin: PluginName): readonly string[] {
  if (manifest.name !== plugin) {
    throw new CordonError(
      'HANDSHAKE_NAME',
      `the plugin calls itself "${manifest.name}", its policy says "${plugin}". Fix: rename the policy file to ${manifest.name}.yaml and write \`plugin: ${manifest.name}\` in it`,
    )
  }
  if (manifest.requires_db) {
    throw new CordonError('HANDSHAKE_REQUIRES_DB', `plugin "${plugin}" requires a direct database URL (\`requires_db\`); this host has none to give`)
  }
  if (manifest.requires_host_data_access) {
    throw new CordonError('HANDSHAKE_REQUIRES_HOST_DATA', `plugin "${plugin}" requires the host's data directory (\`requires_host_data_access\`); no plugin gets it here`)
  }
  if (!HEALTH_PATH.test(manifest.health_path)) {
    throw new CordonError('HANDSHAKE_HEALTH_PATH', `manifest.health_path is "${printable(manifest.health_path, 80)}"; expected ${HEALTH_PATH.source}`)
  }
  return findWarnings(manifest)
}

/** Cross-checks of protocol sections 7 and 12.4. */
function findWarnings(manifest: Manifest): string[] {
  const warnings: string[] = []
  for (const name of ['api_read', 'api_write'] as const) {
    const permission = manifest.host_permissions?.includes(name) ?? false
    if (permission && !manifest.capabilities.includes(name)) warnings.push(`host_permissions has ${name} but capabilities does not: api_call can never succeed`)
    if (!permission && manifest.capabilities.includes(name)) warnings.push(`capabilities has ${name} but host_permissions does not: api_call can never succeed`)
  }
  if (manifest.events.length > 0 && manifest.host_permissions !== null && !manifest.host_permissions.includes('events_read')) {
    warnings.push('events are subscribed but host_permissions lacks events_read: none will be delivered')
  }
  for (const path of manifest.public_paths) {
    if (normalisePublicPath(path) === null) warnings.push(`public_paths entry "${printable(path, 80)}" is not a plain path below "/": it opens nothing`)
  }
  return warnings
}

/**
 * The paths that both sides want public. Each is a prefix by whole segments, so of two that overlap the longer one is meant.
 * An entry that would open everything (`/`, ``) or could be normalised into something else opens nothing.
 */
export function sharedPublicPaths(fromPolicy: readonly string[], fromManifest: readonly string[]): readonly string[] {
  const shared = new Set<string>()
  for (const allowed of fromPolicy.map(normalisePublicPath)) {
    for (const declared of fromManifest.map(normalisePublicPath)) {
      if (allowed === null || declared === null) continue
      if (covers(allowed, declared)) shared.add(declared)
      else if (covers(declared, allowed)) shared.add(allowed)
    }
  }
  return [...shared]
}

function normalisePublicPath(path: string): string | null {
  const trimmed = path.replace(/\/+$/, '')
  return /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)+$/.test(trimmed) ? trimmed : null
}

function covers(prefix: string, path: string): boolean {
  return path === prefix || path.startsWith(`${prefix}/`)
}

/**
 * Declared ∩ granted (protocol section 16). A manifest without the key predates grants; whether the operator's grants apply to
 * it is the policy's `api.legacy`, never an empty list by accident.
 */
export function effectivePermissions(manifest: Manifest, grants: readonly HostPermission[], legacy: 'deny' | 'grant'): readonly HostPermission[] {
  const declared = manifest.host_permissions
  if (declared === null) return legacy === 'grant' ? [...new Set(grants)] : []
  return declared.filter((permission) => grants.includes(permission))
}

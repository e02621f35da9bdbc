import type { HostPermission } from '../base/host-permissions.ts'

/** Protocol section 7, defaults filled in. Every text in it is attacker-controlled. */
export interface Manifest {
  readonly name: string
  readonly version: string
  readonly display_name: string | null
  readonly description: string | null
  readonly nav: readonly NavEntry[]
  readonly ui: UiManifest | null
  readonly requires_db: boolean
  readonly requires_host_data_access: boolean
  readonly health_path: string
  readonly hide_header: boolean
  readonly public_paths: readonly string[]
  readonly capabilities: readonly ('api_read' | 'api_write')[]
  /** null: the key was absent, which is not the same as an empty list (section 16). */
  readonly host_permissions: readonly HostPermission[] | null
  readonly events: readonly string[]
}

export interface NavEntry {
  readonly label: string
  readonly icon: string
  readonly section: 'platform' | 'settings' | 'project'
  readonly path: string
  readonly order: number
}

export interface UiManifest {
  readonly entry_js: string
  readonly css: readonly string[]
  readonly routes: readonly { readonly path: string; readonly title: string }[]
}

import type { DoorEvent } from '../wire/door.ts'
import type { GatewayEvent } from '../wire/events.ts'
import type { LauncherEventType } from './record.ts'

export type AuditType = LauncherEventType | GatewayEvent['type'] | DoorEvent['type']

// Classes of the Open Cybersecurity Schema Framework, schema.ocsf.io, version 1.3.
const FILE_SYSTEM = 1001
const PROCESS = 1007
const EVENT_LOG = 1008
const DETECTION = 2004
const AUTHORIZE_SESSION = 3003
const ENTITY_MANAGEMENT = 3004
const NETWORK = 4001
const DNS = 4003
const HTTP = 4002
const LIFECYCLE = 6002
const API = 6003

/**
 * The OCSF class of each type of record, so that other systems can sort our lines without knowing Cordon. It is also the
 * list of types that a log may hold; a type that has no row here does not type-check and cannot be written.
 */
export const OCSF_CLASS: Readonly<Record<AuditType, number>> = {
  'daemon.started': LIFECYCLE, 'daemon.stopped': LIFECYCLE, 'daemon.cleaned': LIFECYCLE,
  'gateway.started': LIFECYCLE, 'gateway.ended': LIFECYCLE, 'door.started': LIFECYCLE, 'door.ended': LIFECYCLE, 'door.opened': LIFECYCLE,
  'egress.opened': NETWORK, 'egress.closed': NETWORK, 'egress.refused': NETWORK, 'dns.refused': DNS, 'egress.applied': ENTITY_MANAGEMENT,
  'policy.loaded': ENTITY_MANAGEMENT, 'policy.refused': ENTITY_MANAGEMENT, 'policy.removed': ENTITY_MANAGEMENT,
  'plugin.found': LIFECYCLE, 'plugin.start': LIFECYCLE, 'plugin.started': LIFECYCLE, 'plugin.running': LIFECYCLE,
  'plugin.stop': LIFECYCLE, 'plugin.exited': LIFECYCLE, 'plugin.failed': LIFECYCLE,
  'plugin.enabled': LIFECYCLE, 'plugin.disabled': LIFECYCLE, 'plugin.handshake': LIFECYCLE, 'plugin.refused': DETECTION,
  'isolation.attested': PROCESS, 'isolation.violated': DETECTION,
  'resources.snapshot': PROCESS, 'egress.attempted': NETWORK, 'gap': EVENT_LOG,
  'log.created': EVENT_LOG, 'log.opened': EVENT_LOG, 'log.pruned': EVENT_LOG, 'log.full': EVENT_LOG, 'seal': EVENT_LOG,
  'admin.act': ENTITY_MANAGEMENT, 'executable.stored': FILE_SYSTEM, 'run.started': PROCESS, 'run.ended': PROCESS,
  'http.request': HTTP, 'http.count': HTTP,
  'access.denied': AUTHORIZE_SESSION, 'access.granted': AUTHORIZE_SESSION,
  'channel.call': API, 'channel.closed': API, 'health.changed': LIFECYCLE,
}

export function isAuditType(type: string): type is AuditType {
  return Object.hasOwn(OCSF_CLASS, type)
}

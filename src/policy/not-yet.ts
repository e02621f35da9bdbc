/** Fields that the design knows and this version does not enforce, with what holds today instead. Accepting one would be a promise that nobody keeps. */
export const NOT_YET: ReadonlyMap<string, string> = new Map([
  ['secrets', 'today no secret is handed to a plugin; `env` is visible in this file and in the process'],
  ['limits.DiskMax', 'today the data directory has no size of its own; watch the disk below the state directory'],
  ['api.events', 'today no platform events are delivered'],
])

/** The same for /etc/cordon/cordon.yaml. */
export const HOST_NOT_YET: ReadonlyMap<string, string> = new Map([
  ['plugin_hosts', 'today each plugin has the origin NAME.localhost:PORT'],
])

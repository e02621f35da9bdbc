/** Cordon's own places on this host; no grant may reach into them or cover them. All absolute and normalised. */
export interface OwnPlaces {
  readonly policiesDir: string
  readonly stateDir: string
  readonly runDir: string
  readonly pluginsDir: string
}

export const DEFAULT_OWN_PLACES: OwnPlaces = Object.freeze({
  policiesDir: '/etc/cordon/policies', stateDir: '/var/lib/cordon', runDir: '/run/cordon', pluginsDir: '/var/lib/cordon/plugins',
})

export type PathUse = 'read' | 'runtime' | 'socket' | 'executable'
export type Judgement = { readonly verdict: 'fine' } | { readonly verdict: 'warn' | 'refuse'; readonly why: string }

/**
 * May a policy name this host path? Judged by its spelling alone: whether a link on the way leads elsewhere is for whoever
 * mounts it to find out, and to ask here again with the real path.
 * @param path as written by the operator
 */
export function judgePath(use: PathUse, path: string, own: OwnPlaces): Judgement {
  const form = wrongForm(path)
  if (form !== null) return refuse(form)
  if (path === '/') return refuse('it is the whole host')
  for (const place of ownRoots(own)) {
    if (use === 'executable' && (path === own.pluginsDir || isBelow(path, own.pluginsDir))) {
      if (path === own.pluginsDir) return refuse('it is the directory of all plugins; name one program in it')
      break
    }
    if (path === place || isBelow(path, place)) return refuse(`${place} is Cordon's own: its policies, audit log, keys and sockets lie there`)
    if (isBelow(place, path)) return refuse(`it contains ${place}, which is Cordon's own`)
  }
  if (path === '/var/run' || isBelow(path, '/var/run')) return refuse(`/var/run is a link; it means ${path.slice('/var'.length)}`)
  for (const [place, why] of NEVER) {
    if (path === place || isBelow(path, place)) return refuse(why)
  }
  for (const [place, why] of CONTAINS_SECRETS) {
    if (path === place || isBelow(path, place)) return refuse(why)
    if (isBelow(place, path) && use !== 'executable') return refuse(`it contains ${place}: ${why}`)
  }
  if (path.split('/').some((part) => PRIVATE_NAMES.has(part))) return refuse('private keys lie there')
  if (CONTROL_SOCKETS.test(path)) return refuse('whoever can talk to that socket commands the host')
  const shared = ['/tmp', '/var/tmp'].find((place) => path === place || isBelow(path, place))
  if (use !== 'executable') return shared === undefined ? judgeMount(use, path) : refuse(`every user of the host can put something into ${shared}`)
  if (path === '/run' || isBelow(path, '/run')) return refuse('/run is gone after a reboot')
  return shared === undefined ? { verdict: 'fine' } : { verdict: 'warn', why: `every user of the host can put something into ${shared}` }
}

/** What is mounted at its own path inside the walls must not cover what Cordon puts there (plan/mounts.ts). */
function judgeMount(use: PathUse, path: string): Judgement {
  for (const place of VISIBLE) {
    if (path === place || isBelow(path, place)) return use === 'socket' ? { verdict: 'fine' } : refuse(`${place} is readable for every plugin already`)
  }
  for (const place of INSIDE_PLACES) {
    if (path === place || isBelow(path, place) || isBelow(place, path)) return refuse(`${place} has a meaning of its own inside the walls, and a mount would cover it`)
  }
  if (path === '/run' || (isBelow(path, '/run') && use !== 'socket')) return refuse('sockets of the host lie in /run, and reading is not needed to talk to them; name one socket under `sockets`')
  for (const [place, why] of WARN) {
    if (path === place || isBelow(path, place)) return { verdict: 'warn', why }
  }
  return { verdict: 'fine' }
}

const NEVER: readonly (readonly [string, string])[] = [
  ['/proc', "it shows and steers the host's processes; a plugin has a /proc of its own"],
  ['/sys', "it shows and steers the host's kernel and devices"],
  ['/dev', "it holds the host's devices; a plugin has a small /dev of its own"],
  ['/run/user', "it holds the sockets of logged-in users' sessions"],
  ['/run/systemd', 'whoever can talk to systemd commands the host'],
  ['/run/dbus', 'the system bus leads to services that run as root'],
  ['/run/udev', "it describes and steers the host's devices"],
]

/** Refused with everything above them: a grant of the parent would grant these. */
const CONTAINS_SECRETS: readonly (readonly [string, string])[] = [
  ['/etc/shadow', 'password hashes lie there'],
  ['/etc/gshadow', 'password hashes lie there'],
  ['/etc/shadow-', 'password hashes lie there'],
  ['/etc/gshadow-', 'password hashes lie there'],
  ['/etc/sudoers', 'it tells who may become root'],
  ['/etc/sudoers.d', 'it tells who may become root'],
  ['/etc/ssh', "the host's private keys lie there"],
  ['/etc/ssl/private', 'private keys lie there'],
  ['/etc/letsencrypt', 'private keys lie there'],
  ['/etc/credstore', "systemd's credentials lie there"],
  ['/etc/credstore.encrypted', "systemd's credentials lie there"],
  ['/var/lib/docker', "other containers' files and secrets lie there"],
  ['/var/lib/containerd', "other containers' files and secrets lie there"],
  ['/var/lib/containers', "other containers' files and secrets lie there"],
  ['/var/lib/kubelet', "other containers' files and secrets lie there"],
  ['/var/lib/systemd', "systemd's own state and the host's random seed and keys lie there"],
]

const PRIVATE_NAMES = new Set(['.ssh', '.gnupg'])

/** Sockets whose protocol is "run this for me as root", wherever they were moved to. */
const CONTROL_SOCKETS = /\/(?:(?:docker|dockerd|containerd|crio|podman|lxd|incus|buildkitd|snapd|snapd-snap|libvirt-sock|virtqemud-sock|systemd-private|private)(?:\.(?:sock|socket))?|unix\.socket|system_bus_socket)$/

/** Mounted read-only for every plugin (plan/mounts.ts), or links into it. */
const VISIBLE = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/etc/alternatives', '/etc/ssl/certs', '/etc/ld.so.cache', '/etc/localtime'] as const

/** Made by Cordon for each run. */
const INSIDE_PLACES = [
  '/.cordon', '/plugin', '/data', '/run/plugin', '/etc/passwd', '/etc/group', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/etc/nsswitch.conf',
] as const

const WARN: readonly (readonly [string, string])[] = [
  ['/etc', 'configuration of the host often holds passwords'],
  ['/home', "it belongs to a person; name the narrowest directory"],
  ['/root', "it is root's own directory; name the narrowest directory"],
  ['/var/log', 'logs tell much about the host and its users'],
  ['/boot', 'it tells which kernel the host runs and how'],
]

/** The directories that Cordon writes or trusts, and /etc/cordon where its configuration and keys lie. */
function ownRoots(own: OwnPlaces): Set<string> {
  return new Set(['/etc/cordon', own.policiesDir, own.stateDir, own.runDir, own.pluginsDir])
}

/** @returns what is wrong with the spelling, or null */
export function wrongForm(path: string): string | null {
  if (!path.startsWith('/')) return 'it is not absolute'
  if (path.length > 1024) return 'it is longer than 1024 characters'
  if (/[\p{Cc}\p{Surrogate}]/u.test(path)) return 'it holds a control character'
  const parts = path.slice(1).split('/')
  if (parts.includes('..')) return 'it holds `..`'
  if (path !== '/' && (parts.includes('.') || parts.includes(''))) return 'it is not normalised: no `.`, no `//`, no slash at the end'
  return null
}

function isBelow(path: string, place: string): boolean {
  return path.startsWith(`${place}/`)
}

function refuse(why: string): Judgement {
  return { verdict: 'refuse', why }
}

import { matchText, type EgressRule } from '../base/egress-rule.ts'
import { formatBytes, formatDuration } from '../policy/units.ts'
import type { Grant, Limits, Policy } from '../policy/policy.ts'
import { ETC_BINDS, INSIDE } from './mounts.ts'

/**
 * The whole policy in plain sentences, with every rule that Cordon adds by itself: what is not said here is refused.
 * Pure; the same policy gives the same lines.
 */
export function explain(policy: Policy): string[] {
  return [
    `${policy.plugin} runs under its policy${policy.preset === null ? '' : `, which extends the preset "${policy.preset}"`}. Whatever is not named below is refused.`,
    ...program(policy),
    ...reading(policy),
    ...writing(policy),
    ...processes(policy),
    ...limits(policy.limits),
    ...network(policy),
    'System calls: an allow-list of what ordinary programs need. No mounts, no kernel modules, no tracing, no BPF, no keyrings, no new namespaces, no io_uring; only the native ABI. Another call is answered "not implemented" or "not permitted".',
    ...host(policy),
    ...(policy.tripwires === 'off' ? [] : [`Tripwires: a decoy host name and a decoy secret are laid out for it; one touch is a critical record${policy.tripwires === 'quarantine' ? ', and puts it in quarantine at once' : ''}.`]),
    AUDIT_LOSS[policy.onAuditLoss],
    ...restart(policy),
    ...missing(policy),
  ]
}

const AUDIT_LOSS: Readonly<Record<Policy['onAuditLoss'], string>> = {
  continue: 'While the audit log cannot be written: it runs on behind its walls, and what must be on record first is refused: starts, connections, wider rules.',
  pause: 'While the audit log cannot be written: it is frozen, and its page answers 503; once that is on record, it runs on where it stood. If it is stopped meanwhile, it is killed.',
  stop: 'While the audit log cannot be written: it is stopped, and started again when that can be recorded.',
}

function program({ plugin, executable, runtime }: Policy): string[] {
  const inside = `${INSIDE.plugin}/${plugin}`
  const what = executable.entry === null ? executable.path : `${executable.entry} of the directory ${executable.path}`
  return [
    `Program: ${what}. It runs from a root-owned copy that was hashed while it was made, read-only at ${inside}.`,
    executable.sha256 === null
      ? 'Hash: none is pinned. Whatever lies at that path when it starts runs, and its hash is recorded.'
      : `Hash: it starts only if its SHA-256 is ${executable.sha256}.`,
    `It can execute: its own program, everything below /usr, what it writes into ${INSIDE.data} and /tmp${runtime.length === 0 ? '.' : ', and the root-owned trees below.'}`,
    ...each('runtime tree, read-only and executable', runtime),
  ]
}

function reading({ read, sockets }: Policy): string[] {
  return [
    `It can read: its program; /usr of the host; ${ETC_BINDS.join(', ')} of the host; a /proc that shows its own processes only; its own cgroup, read-only; a minimal /dev. Its passwd, group, hosts and resolv.conf are made by Cordon and name nobody else.`,
    read.length === 0 ? 'Files of the host beyond that: none exist for it.' : 'Files of the host beyond that, read-only and not executable:',
    ...each('may read', read),
    sockets.length === 0 ? 'Sockets of host services: none exist for it.' : 'Sockets of host services that it can talk to, with all that the service lets a stranger do:',
    ...each('may connect to', sockets),
  ]
}

function writing({ limits: { TmpMax } }: Policy): string[] {
  return [
    `It can write: ${INSIDE.data}, its own directory, which survives restarts and has no size limit of its own in this version; /tmp, at most ${formatBytes(TmpMax)} in memory; /dev/shm, in memory; ${INSIDE.socketDir}, 64K and 16 files, for its socket. Nothing else.`,
  ]
}

function processes({ env }: Policy): string[] {
  const names = Object.keys(env)
  return [
    'User: a uid of its own that no other plugin ever had, no groups, no capabilities, and no way to gain any (no_new_privs).',
    'It sees: only its own processes, its own host name and its own IPC. It inherits no file and no terminal; its standard input, output and error are pipes to Cordon.',
    `Environment: HOME, PATH, TMPDIR and LANG${names.length === 0 ? ', nothing else.' : `, and from the policy ${names.join(', ')}.`}`,
  ]
}

function limits(of: Limits): string[] {
  const io = [
    of.IOReadBandwidthMax === null ? null : `reads ${formatBytes(of.IOReadBandwidthMax, 1000)} bytes per second (base 1000)`,
    of.IOWriteBandwidthMax === null ? null : `writes ${formatBytes(of.IOWriteBandwidthMax, 1000)} bytes per second (base 1000)`,
    of.IOWeight === null ? null : `weight ${of.IOWeight} against others (100 is usual)`,
  ].filter((part) => part !== null)
  return [
    `Memory: at most ${formatBytes(of.MemoryMax)}, no swap. Above it all its processes are killed together${of.MemoryHigh === null ? '.' : `; above ${formatBytes(of.MemoryHigh)} it is slowed down.`}`,
    `CPU: at most ${of.CPUQuota}% of one CPU (100% is one whole CPU), weight ${of.CPUWeight} against others (100 is usual).`,
    `Processes and threads: at most ${of.TasksMax} together. Open files: at most ${of.LimitNOFILE} in each process. Core dumps: none.`,
    io.length === 0 ? 'Disk bandwidth: not limited.' : `Disk bandwidth: ${io.join(', ')}.`,
  ]
}

function network({ sockets, egress, limits: { EgressMax, MaxConnections } }: Policy): string[] {
  if (egress.mode === 'enforce' && egress.allow.length === 0) {
    return [
      `Network: none. Its network namespace has only a loopback of its own; no address of the host, of the local network or of the Internet can be reached, no name resolves, and each attempt is refused at once and recorded.${
        sockets.length === 0 ? '' : ' The sockets above are the only way out, as far as the services behind them allow.'}`,
      ...(EgressMax === null ? [] : [`Bytes that may leave: at most ${formatBytes(EgressMax)} per day, of which nothing can be used while no rule opens anything.`]),
    ]
  }
  return [
    ...(egress.mode === 'learn' ? [`LEARNING, NOT PROTECTED until ${String(egress.until)}: every public name can be reached and is recorded; private addresses, this host and metadata services cannot. Then only what is named below holds.`] : []),
    'Network: only what is named below, through a door that looks at every connection and records it. Its network namespace has only a loopback of its own; TCP alone leaves it, and no packet of the plugin does.',
    ...(egress.allow.length === 0 ? ['  may reach: nothing that is named'] : egress.allow.map((rule) => `  ${egressLine(rule)}`)),
    'Names: the door answers for the names above with stand-in addresses and asks a resolver only when a connection is made; every other name does not exist for it, and no query is passed on.',
    'Never reached, whatever a rule says: this host itself except `host.internal`, link-local addresses and cloud metadata services, multicast, reserved and translated addresses (6to4, Teredo, NAT64 to such), and Cordon\'s own ports. Private addresses and direct neighbours only by rules that say private.',
    'Not prevented: another site behind the same content network, if that network lets a request name another host than its TLS hello (fronting).',
    `Connections through the door: at most ${MaxConnections} at a time; as many again wait, and more are reset.`,
    EgressMax === null ? 'Bytes that may leave: not limited.' : `Bytes that may leave: at most ${formatBytes(EgressMax)} per day (UTC); then the door is shut until midnight.`,
  ]
}

const TLS_WORDS = { require: 'TLS for that very name only', auto: 'TLS, where it is spoken, for that very name only', off: 'whatever it speaks' } as const

/** One rule as a sentence. */
export function egressLine({ match, ports, tls, ech, until, reason, ...rule }: EgressRule): string {
  const what = {
    'host': () => matchText(match), 'wildcard': () => `${matchText(match)} (names below the zone, not the zone itself)`, 'public': () => 'every public name', 'cidr': () => `the addresses ${matchText(match)}`,
    'host.internal': () => 'the loopback of this host, as host.internal',
  }[match.kind]()
  const more = [
    match.kind === 'cidr' ? null : TLS_WORDS[tls],
    rule.private ? 'private addresses too' : null,
    ech ? 'encrypted hellos (ECH) accepted' : null,
    until === null ? null : `until ${until}`,
  ].filter((part) => part !== null)
  return `may reach: ${what} on ${ports.length === 1 ? 'port' : 'ports'} ${ports.join(', ')}${more.length === 0 ? '' : `; ${more.join('; ')}`} (${reason})`
}

function host({ plugin, api, http }: Policy): string[] {
  const granted = api.grants.length === 0 ? 'none. Every call that needs one is refused.' : `${api.grants.join(', ')}, and of these only what its manifest asks for.`
  const legacy = api.grants.length === 0 ? [] : [api.legacy === 'grant'
    ? 'A manifest too old to ask for permissions gets all of them.'
    : 'A manifest too old to ask for permissions gets none of them.']
  return [
    `Host API permissions: ${granted}`,
    ...legacy,
    `Its pages: reached through Cordon alone, at the origin ${plugin}.localhost, by people who are logged in and by bearers of the admin token. /_temps and /_events are reached by nobody.`,
    http.publicPaths.length === 0
      ? 'Pages without a login: none.'
      : `Pages without a login: ${http.publicPaths.join(', ')} and everything below, for anybody who can reach Cordon, if its manifest declares them too.`,
  ]
}

function restart({ restart: { on, backoffMinMs, backoffMaxMs, startLimit } }: Policy): string[] {
  const stop = 'Stopping: it is asked first; then everything in its cgroup is killed, however many processes it made.'
  if (on === 'never') return ['Restart: never. When it ends, an operator starts it again.', stop]
  const when = on === 'always' ? 'whenever it ends by itself' : 'when it fails'
  return [
    `Restart: ${when}, after ${formatDuration(backoffMinMs)} at first and doubled up to ${formatDuration(backoffMaxMs)}. After ${startLimit.count} starts in ${formatDuration(startLimit.windowMs)} it stays failed (start-limit) until an operator starts it.`,
    stop,
  ]
}

function missing({ unenforced }: Policy): string[] {
  return unenforced.length === 0
    ? ['Missing walls accepted: none. If this host cannot enforce a limit above, the plugin does not start.']
    : [`NOT ENFORCED where this host cannot: ${unenforced.join(', ')}. \`status\`, audit and console show it.`]
}

function each(verb: string, grants: readonly Grant[]): string[] {
  return grants.map(({ path, reason }) => `  ${verb}: ${path} (${reason})`)
}

import * as z from 'zod'
import { OCSF } from './ocsf.ts'
import { count, counts, figure, flag, intent, outcome, plugin, policyDigest, run, text } from './row.ts'

const who = text('On whose behalf. From a terminal `root (loginuid …, SUDO_USER …)`: the login by the kernel, SUDO_USER by the environment of the command, which root can choose; over HTTP what let the caller in, and from where')
const who_verified = flag('Of a command in a terminal: the kernel was asked who is at the other end of its socket; false: that failed, and `who` is the command\'s own word').optional()
const reason = text('Why')
const oom_kills = count('Processes of the run that the kernel killed for want of memory')
const status = z.int().nullable().describe('Exit status; null: it has none')
const plan_digest = text('SHA-256 of the plan: the whole promise to the kernel')
const of = text('The `cordon run` that the door is for').optional()
const style = z.enum(['1', '1db', '2']).describe('Arguments that it is started with: of which generation of the handshake, and `1db` with a database')
const spread = (what: string) => z.strictObject({ min: z.int().describe('Least'), mean: z.int().describe('Mean'), max: z.int().describe('Most') }).nullable().describe(`${what}: least, mean and most of the samples; null: this host has no such figure`)
const differences = z.array(z.strictObject({ what: text('Which promise'), expected: text('What the plan says'), found: text('What the kernel shows') })).describe('Where kernel and plan differ')

/** What the launcher records itself. A new type is a new row; src/audit/RECORDS.md and policies/record.schema.json follow from it. */
export const LAUNCHER_RECORDS = {
  'daemon.started': intent(OCSF.lifecycle, 'The daemon begins; nothing was started before.', {
    version: text('Version of Cordon'), kernel: text('Release of the kernel'), runtime: z.enum(['crun', 'runc']).describe('The OCI runtime'), runtime_version: text('Its version'),
    cgroup: z.int().describe('Version of control groups: 1 or 2'),
  }),
  'daemon.stopped': outcome(OCSF.lifecycle, 'The daemon ends; everything that it started is gone.', { reason }),
  'daemon.lost': outcome(OCSF.lifecycle, 'The daemon before this one left no last word: it was killed, or the machine was. All that it had started ended with it, at the latest by now.', {
    last: text('Time of its last record'),
    runs: z.array(z.strictObject({ plugin: text('Of which plugin'), run: text('Which run') })).describe('Runs that have no `plugin.exited`, at most a hundred'), more_runs: count('Runs beyond those'),
    connections: count('Connections to the outside whose end was not on record'), told: count('How many of them have an `egress.closed` before this record, with the code `daemon-ended`'),
    whole: flag('False: only the newest 64 MiB of records were looked through; what began before them may have ended with it, too'),
  }),
  'daemon.cleaned': outcome(OCSF.lifecycle, 'An earlier daemon left something behind, and it was removed.', { cgroups: count('Control groups, with all processes in them'), places: count('Directories of runs') }),

  'gateway.started': outcome(OCSF.lifecycle, 'The gateway serves.', { run, port: count('Port that it listens on') }),
  'gateway.ended': outcome(OCSF.lifecycle, 'The gateway ended.', { run, reason, status, oom_kills }),
  'door.started': outcome(OCSF.lifecycle, 'The door process is ready.', { run, of }),
  'door.ended': outcome(OCSF.lifecycle, 'The door process ended.', { run, of, reason, oom_kills }),
  'door.opened': outcome(OCSF.lifecycle, 'A run has its listeners, and the door serves them.', { plugin, run, mode: z.enum(['enforce', 'learn']).describe('`learn`: every public name is let through'), state: text('What holds from then on, where that is to be shouted').optional(), rules: count('How many rules') }),

  'policy.loaded': intent(OCSF.entity, 'A policy is put in force.', {
    plugin, policy_digest: text('SHA-256 of the compiled policy; it is kept under this name'), file: text('Where it was read'), previous: z.string().nullable().describe('Digest of the one before, also of an earlier daemon; null: there was none'),
    changes: z.array(z.strictObject({ sign: z.enum(['+', '-', '~']).describe('Grants more, grants less, or neither'), field: text('Which field'), say: text('What it means') })).describe('What is different from the one before; of variables only the names'),
    more_changes: count('Changes beyond those'),
  }),
  'policy.refused': outcome(OCSF.entity, 'A policy file was not put in force: it is not valid, or it grants more and only the gateway asked. What was in force stays.', { file: text('The file'), code: text('Error code'), reason }),
  'policy.removed': outcome(OCSF.entity, 'The policy file of a plugin is gone, and so nothing is granted to it any more.', { plugin }),
  'egress.applied': outcome(OCSF.entity, 'Other rules for the door are in force. What widens them is durable before.', {
    plugin, policyDigest: policyDigest.optional(),
    act: z.enum(['allow', 'deny', 'learn', 'learn ended']).optional().describe('What was done from the terminal; absent: the policy file changed'),
    destination: text('Name or block, and port').optional(), until: text('When it ends').optional(), state: text('What holds from then on, where that is to be shouted').optional(), reason: reason.optional(), who: who.optional(), who_verified,
    closed: count('Connections that the new rules ended').optional(), held: z.array(z.int()).readonly().optional().describe('Ports that the plugin holds itself, so that the door cannot listen there'),
  }),

  'plugin.found': outcome(OCSF.lifecycle, 'A program without a policy of its own lies in the plugin directory.', { plugin, path: text('Where'), policy: z.enum(['none', 'default']).describe('`none`: it waits; `default`: it runs under the policy that grants nothing') }),
  'plugin.start': intent(OCSF.lifecycle, 'A run is about to be made.', { plugin, run, policyDigest, sha256: text('SHA-256 of what is started'), generation: style }),
  'plugin.started': outcome(OCSF.lifecycle, 'A run was released at its gate.', {
    plugin, run, uid: count('The user that it runs as'),
    secrets: z.array(z.string()).describe('Names of the secrets that it is handed'), env: z.array(z.string()).describe('Names of the variables that its policy sets, decoys among them; values are in no record'),
  }),
  'plugin.running': outcome(OCSF.lifecycle, 'A plugin is ready.', { plugin, run, generation: z.enum(['1', '2']).describe('Generation of its handshake'), version: text('What it says of its version') }),
  'plugin.stop': outcome(OCSF.lifecycle, 'A run is being ended.', { plugin, run, reason }),
  'plugin.exited': outcome(OCSF.lifecycle, 'A run ended, and nothing of it is left.', {
    plugin, run, reason, status, oom_kills, seconds: count('How long it ran'),
    policyDigest: policyDigest.optional(), sha256: text('SHA-256 of what ran, which is kept as long as this is').optional(),
  }),
  'plugin.failed': outcome(OCSF.lifecycle, 'A start or a run failed, or no further start is tried.', { plugin, run: run.optional(), code: text('Error code').optional(), reason }),
  'plugin.enabled': intent(OCSF.lifecycle, 'A plugin may be started again.', { plugin, who, who_verified }),
  'plugin.disabled': outcome(OCSF.lifecycle, 'A plugin was stopped and stays so.', { plugin, who, who_verified }),
  'plugin.quarantined': outcome(OCSF.detection, 'A plugin was shut in: nothing of it runs, is reached or reaches out, until it is released. This waits for nothing.', {
    plugin, run: run.optional(), who, who_verified, reason, held: z.enum(['frozen', 'killed', 'not-running']).describe('What became of its processes'),
  }),
  'plugin.released': intent(OCSF.entity, 'A plugin is let out of quarantine by an operator.', { plugin, run: run.optional(), who, who_verified, reason, since: text('When its quarantine began') }),
  'evidence.gathered': intent(OCSF.entity, 'An operator gathered evidence about a plugin; the record vouches for its manifest.', { plugin, sha256: text('SHA-256 of the manifest'), files: count('Files that the manifest lists'), who, who_verified }),
  'plugin.resumed': intent(OCSF.lifecycle, 'A plugin that stood still while the log took no records is about to run on.', { plugin, run, since: text('When it was frozen'), reason }),
  'executable.stored': intent(OCSF.file, 'A program was copied into the store; only what was hashed there is ever run.', {
    plugin, sha256: text('SHA-256 of the file, or of the tree'), kind: z.enum(['file', 'directory']).describe('What it is'), bytes: count('Its size'), path: text('Where it was read'), pinned: flag('The policy demands this digest'),
  }),
  'store.collected': intent(OCSF.file, 'Programs and compiled policies that no record names any more, and no policy in force, are about to be removed.', {
    programs: z.array(z.string()).describe('SHA-256 of programs in the store'), policies: z.array(z.string()).describe('Digests of compiled policies'),
  }),

  'isolation.attested': intent(OCSF.process, 'The kernel shows every wall that the plan promises, while nothing of the program has run.', {
    plugin: plugin.optional(), run, policyDigest: policyDigest.optional(), subject: z.enum(['gateway', 'door']).optional().describe('A process of Cordon\'s own'),
    of, plan_digest, found: z.record(z.string(), z.string()).describe('What was read back from the kernel'),
  }),
  'isolation.violated': outcome(OCSF.detection, 'The kernel shows something else than the plan; the run is killed.', { plugin: plugin.optional(), run, of, plan_digest: plan_digest.optional(), differences }),

  'resources.snapshot': outcome(OCSF.processQuery, 'What a run uses: every minute of samples 10 s apart, at once in trouble and right after it, and at its end.', {
    plugin, run, samples: count('How many samples'),
    memory_bytes: spread('Memory'), tasks: spread('Processes and threads'), memory_peak_bytes: figure('Most memory at a time since the run began'),
    oom_kills: figure('Processes killed for want of memory since then'),
    processes: z.array(z.strictObject({ name: text('Name of processes, which they give themselves'), count: count('How many have it') })).describe('What runs now'), processes_more: count('Processes beyond those'),
    cpu_us: figure('Processor time since the last record'), throttled_us: figure('Time that it was held back by CPUQuota since then'), throttled_periods: figure('How often since then'),
    io_read_bytes: figure('Read from disks since then'), io_write_bytes: figure('Written to disks since then'),
    memory_pressure_us: figure('Time that some of it waited for memory since then'), cpu_pressure_us: figure('Time that some of it waited for a processor since then'),
  }),
  'programs.seen': outcome(OCSF.processQuery, 'Programs run that were not seen before in this run. Looked at every 10 s: what lives shorter may be missed.', {
    plugin, run,
    programs: z.array(z.strictObject({ path: text('As it is called behind the walls'), sha256: z.string().nullable().describe('SHA-256 of the file that runs; null: it is too large, or changed while it was read'), bytes: count('Its size') })).describe('Which'),
  }),
  'seccomp.refused': outcome(OCSF.detection, 'The filter refused system calls since the last such record. With crun only; the kernel drops some of these lines when there are many.', {
    plugin: plugin.optional(), run: run.optional(), subject: z.enum(['gateway', 'door']).optional().describe('A process of Cordon\'s own'), calls: counts('At least that often, by the name of the call'),
  }),
  'host.snapshot': outcome(OCSF.processQuery, 'What the host has left, once a minute.', {
    load1_centi: count('Load of the last minute, in hundredths'), cpu_percent: count('Processors in use'), cpus: count('Processors'), memory_bytes: count('Memory'), memory_available_bytes: count('Of it available'),
    disk_available_bytes: figure('Room on the file system of the state directory'),
  }),
  'host.network': outcome(OCSF.lifecycle, 'What the door compares addresses with: at its start, when it changes, and once a day.', {
    of,
    name: text('By which decisions name it'), addresses: z.array(z.string()).describe('Addresses of this host, and blocks that it answers for; without its loopback'),
    on_link: z.array(z.string()).describe('Prefixes of its direct neighbours'), own_ports: z.array(z.int()).describe('Ports on which Cordon itself listens'), more: count('Addresses and prefixes beyond those'),
  }),
  'egress.attempted': outcome(OCSF.network, 'Packets met the second wall, where the door does not listen.', {
    plugin, run, outcome: z.literal('refused').describe('What became of them'), reason, more: count('Destinations beyond those named'),
    attempts: z.array(z.strictObject({ destination: text('Protocol, address and port'), count: count('Packets') })).describe('Where they wanted to go'),
  }),

  'admin.act': outcome(OCSF.entity, 'An operator asked for something.', {
    plugin: plugin.optional(), policyDigest: policyDigest.optional(), act: z.enum(['start', 'stop', 'restart', 'enable', 'disable', 'reload', 'apply', 'open']).describe('What'), who, who_verified,
  }),
  'run.started': intent(OCSF.process, '`cordon run` is about to start a program.', {
    run, policyDigest, plan_digest, who, uid: count('The user that it runs as'), program: text('The program, as it was named'), sha256: text('SHA-256 of its copy in the store; absent: it lies where the program sees it, too').optional(),
    arguments: z.array(z.string()).readonly().describe('Its arguments'),
  }, ['arguments']),
  'run.ended': outcome(OCSF.process, 'A program of `cordon run` ended.', { run, reason, oom_kills }),

  'export.dropped': outcome(OCSF.eventLog, 'Records were not copied to a sink; they stand in this log.', {
    sink: text('Where copies go'), records: count('How many'), first: count('`seq` of the first of them'), reason,
  }),
  'export.stalled': outcome(OCSF.eventLog, 'A sink takes no copies of records, for a minute by now.', { sink: text('Where copies go'), reason }),
  'export.resumed': outcome(OCSF.eventLog, 'A sink takes copies again.', { sink: text('Where copies go'), seconds: count('How long it took none') }),

  'gap': outcome(OCSF.eventLog, 'Records are missing here, and this is what is known of them.', {
    plugin: plugin.optional(), run: run.optional(),
    reason: text('`torn-line`: a write was cut short. `unavailable`, `queue-full`, `bad-event`: they could not be written. `budget`: a plugin caused too many. Else in words'),
    detail: text('The error').optional(), since: text('When it began').optional(),
    lost: counts('Acts without their record, by type').optional(), refused: counts('Acts that were refused for want of a record, by type').optional(), coalesced: counts('Records that were counted instead, by type').optional(),
    torn: z.strictObject({ offset: count('Where, in bytes'), bytes: count('How many'), sha256: text('Their SHA-256') }).optional().describe('Bytes that are no record'),
    what: text('What is missing, where it is no record').optional(), count: count('How many').optional(),
  }),

  'witness.changed': outcome(OCSF.eventLog, 'A witness of the log answers again, answers no more, or refuses what it is shown.', {
    witness: text('Its name in cordon.yaml'), state: z.enum(['answered', 'failed', 'refused']).describe('`refused`: it has seen another history of this log'), reason, size: count('Records in the checkpoint'), failures: count('Attempts in vain before'),
  }),

  // What the log says of itself (FORMAT.md).
  'log.created': outcome(OCSF.eventLog, 'The first record of a log, and only there.', {
    first_key: text('Public key of epoch 0, hex'), log_key: text('Public key that signs checkpoints, hex'), origin: text('Name of the log in checkpoints'), interval_s: count('Seconds between two seals at most'),
  }),
  'log.opened': outcome(OCSF.eventLog, 'A daemon goes on with the log; sealed at once.', { pid: count('Its process id') }),
  'log.pruned': intent(OCSF.eventLog, 'A segment is about to be removed, once this is sealed.', {
    first: count('`seq` of its first record'), next: count('`seq` of the first record after it'), bytes: count('Its size'), sha256: text('SHA-256 of the file'), last_leaf: text('Leaf hash of its last record'),
  }),
  'log.full': outcome(OCSF.eventLog, 'The last words on a disk that takes no more.', { errno: text('What the kernel said') }),
  'seal': outcome(OCSF.eventLog, 'All records before it are signed; the key that did it exists no more.', {
    epoch: count('Number of the seal, from 0'), size: count('How many records it covers'), root: text('RFC 6962 tree hash of them, hex'), next_key: text('Public key of the next epoch, hex'),
    prev_seal: text('Leaf hash of the seal before, hex'), interval_s: count('Seconds until the next seal at most'), why: z.enum(['open', 'interval', 'count', 'rotate', 'close', 'ask']).describe('What it was made for'),
    sig: text('Ed25519 signature, hex'),
  }),
} as const

import { join } from 'node:path'
import type { CommandContext, RunCommand } from './context.ts'

/** One command: what help says of it, and where its code lies. Loaded only when it runs, so `cordon list` starts fast. */
export interface Command {
  /** As typed: `list`, `policy check`. */
  readonly name: string
  /** What follows the name. */
  readonly usage: string
  readonly summary: string
  readonly options: readonly (readonly [flag: string, text: string])[]
  readonly example: string
  /** Exit statuses of its own, beside those of `cordon help exit-codes`. */
  readonly exits: readonly (readonly [status: string, text: string])[]
  readonly load: () => Promise<RunCommand>
}

const NAME = ['NAME', 'a plugin, as in `cordon list`'] as const
const DONE = ['0', 'done'] as const

export const COMMANDS: readonly Command[] = [
  {
    name: 'serve', usage: '', summary: 'Start the host: gateway, plugins and audit trail, until it is stopped', options: [],
    example: 'cordon serve --config /etc/cordon/cordon.yaml', exits: [['75', 'another daemon serves the same state directory']],
    load: async () => (await import('./serve.ts')).serveCommand,
  },
  {
    name: 'run', usage: '[OPTIONS] -- COMMAND [ARGUMENT…]', summary: 'Run any program behind the same walls',
    options: [['--policy FILE', 'its policy; without one it gets nothing'], ['--memory SIZE', 'as 256M'], ['--cpu PERCENT', 'of one CPU, as 25%'], ['--tasks N', 'processes and threads'], ['--read PATH', 'a host path that it may read; may be repeated'], ['--env NAME=VALUE', 'may be repeated'], ['--allow HOST:PORT', 'what it may reach, as for `cordon allow`; may be repeated'], ['--record NAME.yaml', 'let public names through (which protects nothing) and write a policy of what was used']],
    example: 'cordon run --memory 256M --read /srv/www -- /usr/bin/python3 check.py', exits: [['any', 'of the program; 137 when it was killed']],
    load: async () => (await import('./run.ts')).runCommand,
  },
  {
    name: 'doctor', usage: '', summary: 'What this machine enforces, tried by doing it', options: [['--trial', 'only what is tried by starting something, as JSON']], example: 'cordon doctor', exits: [['0', 'nothing fails'], ['69', 'something fails; it is named with the line that mends it']],
    load: async () => (await import('./doctor.ts')).doctorCommand,
  },
  {
    name: 'selftest', usage: '', summary: 'A hostile program against every wall, and outside as a control', options: [], example: 'cordon selftest', exits: [['0', 'every wall held'], ['1', 'a wall is open, or the control shows nothing']],
    load: async () => (await import('./selftest.ts')).selftestCommand,
  },
  {
    name: 'list', usage: '', summary: 'Plugins and their states, one line each', options: [], example: 'cordon list', exits: [DONE],
    load: async () => (await import('./status.ts')).listCommand,
  },
  {
    name: 'status', usage: '[NAME]', summary: 'Everything that is known of one plugin, or of all', options: [NAME], example: 'cordon status indexnow', exits: [DONE, ['66', 'there is no such plugin'], ['69', 'the daemon does not run']],
    load: async () => (await import('./status.ts')).statusCommand,
  },
  {
    name: 'why', usage: 'NAME', summary: 'Why a plugin does not work, and the line that mends it', options: [NAME], example: 'cordon why indexnow', exits: [['0', 'nothing is wrong'], ['1', 'a cause was found and printed']],
    load: async () => (await import('./act.ts')).whyCommand,
  },
  {
    name: 'logs', usage: 'NAME [-f] [-n N] [--stdout]', summary: 'What a plugin printed; control characters are escaped', options: [NAME, ['-f, --follow', 'wait for more, until Ctrl-C'], ['-n, --lines N', 'the newest N lines (100)'], ['--stdout', 'stdout instead of stderr']], example: 'cordon logs indexnow -f', exits: [DONE, ['66', 'there is no log yet']],
    load: async () => (await import('./logs.ts')).logsCommand,
  },
  {
    name: 'egress', usage: 'NAME', summary: 'What a plugin may reach, has open and was refused', options: [NAME], example: 'cordon egress indexnow', exits: [DONE, ['66', 'there is no such plugin'], ['69', 'the daemon does not run']],
    load: async () => (await import('./egress-show.ts')).egressCommand,
  },
  {
    name: 'allow', usage: 'NAME DESTINATION:PORT --for TIME --reason TEXT [--private]', summary: 'Open a destination for a while, without a restart',
    options: [NAME, ['DESTINATION', 'a name, *.ZONE, host.internal, or a block as 10.0.5.0/24 or [fd00::]/64'], ['--for TIME', 'as 30m or 1h; at most 30d'], ['--reason TEXT', 'why the plugin needs this; it is recorded'], ['--private', 'private addresses too']],
    example: 'cordon allow indexnow api.example.org:443 --for 1h --reason "trial"', exits: [DONE, ['65', 'that is no destination'], ['66', 'there is no such plugin'], ['69', 'the daemon does not run']],
    load: async () => (await import('./egress-change.ts')).allowCommand,
  },
  {
    name: 'deny', usage: 'NAME DESTINATION[:PORT] | --all', summary: 'Take a destination away at once, or all of them',
    options: [NAME, ['DESTINATION', 'as a rule says it; open connections to it end'], ['--all', 'shut the door and end learning']],
    example: 'cordon deny indexnow api.example.org:443', exits: [DONE, ['65', 'no rule says that, or a wider rule lets it through'], ['66', 'there is no such plugin'], ['69', 'the daemon does not run']],
    load: async () => (await import('./egress-change.ts')).denyCommand,
  },
  {
    name: 'learn', usage: 'NAME --for TIME | --stop', summary: 'Let public names through and record them; protects nothing',
    options: [NAME, ['--for TIME', 'as 24h; at most 30d; then it ends by closing'], ['--stop', 'end it now']],
    example: 'cordon learn indexnow --for 24h', exits: [DONE, ['66', 'there is no such plugin'], ['69', 'the daemon does not run']],
    load: async () => (await import('./egress-change.ts')).learnCommand,
  },
  act('start', 'Start a plugin, also after it gave up'),
  act('stop', 'Stop a plugin until it is started or the host restarts'),
  act('restart', 'Stop a plugin and start it again'),
  act('enable', 'Let a disabled plugin run again'),
  act('disable', 'Stop a plugin and keep it stopped, also across restarts'),
  {
    name: 'quarantine', usage: 'NAME [--reason TEXT]', summary: 'Freeze a plugin at once and shut its door, until it is released', options: [NAME, ['--reason TEXT', 'why; it is recorded and shown']],
    example: 'cordon quarantine indexnow --reason "odd look-ups"', exits: [['0', 'in quarantine, now or already'], ['66', 'there is no such plugin'], ['69', 'the daemon does not run'], ['74', 'in quarantine, but not on disk yet']],
    load: async () => (await import('./quarantine.ts')).quarantineCommand,
  },
  {
    name: 'release', usage: 'NAME --reason TEXT', summary: 'Let a plugin out of quarantine: end what is frozen, start it anew', options: [NAME, ['--reason TEXT', 'why it may run again; it is on record before anything happens']],
    example: 'cordon release indexnow --reason "false alarm"', exits: [DONE, ['66', 'there is no such plugin'], ['69', 'the daemon does not run'], ['74', 'not on record, so not released'], ['75', 'it is not in quarantine']],
    load: async () => (await import('./quarantine.ts')).releaseCommand,
  },
  {
    name: 'reload', usage: '', summary: 'Read all policies again and restart only what changed', options: [], example: 'cordon reload', exits: [DONE, ['65', 'a policy was refused; what ran before runs on']],
    load: async () => (await import('./act.ts')).reloadCommand,
  },
  {
    name: 'open', usage: 'NAME', summary: 'Print a link that opens a plugin’s page once', options: [NAME], example: 'cordon open indexnow', exits: [DONE],
    load: async () => (await import('./act.ts')).openCommand,
  },
  {
    name: 'token', usage: '', summary: 'Where the admin token of the HTTP API lies', options: [], example: 'cordon token', exits: [DONE],
    load: async () => (await import('./token.ts')).tokenCommand,
  },
  {
    name: 'policy init', usage: 'NAME [--preset P] [--executable PATH] [--file FILE]', summary: 'Write a commented policy that grants nothing', options: [NAME, ['--preset P', 'what it extends (default)'], ['--executable PATH', 'the program; pinned by hash if it is there'], ['--file FILE', 'where to write it']], example: 'cordon policy init indexnow --executable /opt/indexnow/plugin', exits: [DONE, ['73', 'the file exists already']],
    load: async () => {
      const { policyInit } = await import('./policy-init.ts')
      return (args, io, context) => policyInit(args, io, policyOptions(context))
    },
  },
  {
    name: 'policy check', usage: '[NAME|FILE…] [--resolve] [--used]', summary: 'All problems of one policy, or of all of this host', options: [['--resolve', 'also ask this host’s resolver for the names it allows'], ['--used', 'also look for rules that nothing used in 90 days (audit log)']], example: 'cordon policy check ./indexnow.yaml', exits: [['0', 'nothing is wrong'], ['65', 'a policy is refused'], ['77', 'a file may be written by others than root']],
    load: async () => {
      const { policyCheck } = await import('./policy-check.ts')
      return (args, io, context) => policyCheck(args, io, policyOptions(context), undefined, context.signal)
    },
  },
  {
    name: 'policy explain', usage: 'NAME|FILE [--oci]', summary: 'What a policy lets a plugin do, in sentences', options: [['--oci', 'the OCI runtime configuration instead (root)']], example: 'cordon policy explain indexnow', exits: [DONE],
    load: async () => {
      const { policyExplain } = await import('./policy-explain.ts')
      const { ociRenderer } = await import('./policy-oci.ts')
      return async (args, io, context) => {
        // Looking at the host needs root; the sentences do not.
        const renderOci = args.includes('--oci') ? await ociRenderer(context.config) : () => null
        return policyExplain(args, io, { ...policyOptions(context), renderOci })
      }
    },
  },
  {
    name: 'explain', usage: 'NAME --at TIME', summary: 'What a plugin was allowed at that time, and who had changed it', options: [NAME, ['--at TIME', 'as 2h, 3d, 2026-11-01 or an instant (now)']], example: 'cordon explain indexnow --at 2026-11-01T08:00:00Z', exits: [DONE, ['66', 'it had no policy then, or there is no audit log']],
    load: async () => (await import('./explain-at.ts')).explainAt,
  },
  {
    name: 'policy diff', usage: 'NAME', summary: 'What the policy file would change, in sentences', options: [NAME], example: 'cordon policy diff indexnow', exits: [['0', 'nothing: the file is in force'], ['1', 'something, and it was printed']],
    load: async () => (await import('./policy-apply.ts')).policyDiff,
  },
  {
    name: 'policy apply', usage: 'NAME [--yes]', summary: 'Show that, ask, and put exactly that in force', options: [NAME, ['--yes', 'do not ask; needed where nobody can be asked']], example: 'cordon policy apply indexnow', exits: [['0', 'in force'], ['1', 'the answer was no'], ['75', 'the file changed after it was shown']],
    load: async () => {
      const { policyApply } = await import('./policy-apply.ts')
      const { terminalConfirm } = await import('./confirm.ts')
      return (args, io, context) => policyApply(args, io, context, terminalConfirm())
    },
  },
  {
    name: 'policy suggest', usage: 'NAME [--since WHEN]', summary: 'What a policy should say, from what was recorded', options: [NAME, ['--since WHEN', 'as 24h, 2026-11-01 or an instant (the latest `cordon learn`, else 30d)']], example: 'cordon policy suggest indexnow', exits: [DONE, ['66', 'nothing is on record']],
    load: async () => (await import('./policy-suggest.ts')).policySuggest,
  },
  {
    name: 'policy test', usage: 'NAME|FILE --replay TIME', summary: 'What a policy would have refused of what happened', options: [['NAME|FILE', 'a policy; the plugin that it names is looked at'], ['--replay TIME', 'how far back, as 30d, or since when']], example: 'cordon policy test ./indexnow.yaml --replay 30d', exits: [['0', 'nothing that was let through would be refused'], ['1', 'something would be refused; it was printed']],
    load: async () => (await import('./policy-test.ts')).policyTest,
  },
  {
    name: 'evidence', usage: 'NAME [--since WHEN] [--out DIR]', summary: 'All that is known of a plugin, in a directory with a sealed manifest',
    options: [NAME, ['--since WHEN', 'records from then on, as 12h, 2026-11-01 or an instant (30d)'], ['--out DIR', 'a directory that does not exist yet (NAME-TIME.evidence, here)']],
    example: 'cordon evidence indexnow --out /root/indexnow.evidence', exits: [['0', 'gathered; what could not be had is named'], ['66', 'there is no audit log'], ['73', 'the directory exists']],
    load: async () => (await import('./evidence.ts')).evidenceCommand,
  },
  {
    name: 'data diff', usage: 'NAME --since WHEN [--rows N]', summary: 'What a plugin wrote into its data directory',
    options: [NAME, ['--since WHEN', 'as 3h, 2026-11-01 or an instant; compared with the newest listing from before'], ['--rows N', 'at most so many lines (200)']],
    example: 'cordon data diff indexnow --since 3h', exits: [DONE, ['66', 'it has no data directory']],
    load: async () => (await import('./data-diff.ts')).dataDiff,
  },
  {
    name: 'audit tail', usage: '[-n N] [-f] [--plugin NAME] [--type T]', summary: 'The newest audit records', options: [['-n N', 'how many (20)'], ['-f', 'wait for more, until Ctrl-C'], ['--plugin NAME', 'of one plugin'], ['--type T', 'as isolation.attested or egress.*; the table has seals only when asked']], example: 'cordon audit tail -f --plugin indexnow', exits: [DONE, ['66', 'there is no audit log']],
    load: async () => {
      const { auditTail } = await import('./audit-tail.ts')
      return (args, io, context) => auditTail(args, io, auditOptions(context))
    },
  },
  {
    name: 'audit query', usage: '[--since WHEN] [--plugin NAME] [--type T] … [-f]', summary: 'Audit records by what is in them',
    options: [
      ['--since WHEN', 'as 2h, 3d, 2026-11-01 or an instant'], ['--until WHEN', 'the same; a day means its end'], ['--plugin NAME', 'of a plugin; - for records about none'], ['--type T', 'as egress.refused or egress.*; the table has seals only when asked'],
      ['--outcome O', 'ok, refused, failed, lost, alarm, or a code as in the records'], ['--host NAME', 'a name or address on the other side, as api.example.org or *.example.org'], ['--client ADDRESS', 'who asked over HTTP'],
      ['--digest HEX', 'of a policy, plan or program; its first digits do'], ['--text TEXT', 'anywhere in the record; case does not matter'],
      ['-n, --limit N', 'the newest N that match (100)'], ['--oldest', 'from the oldest on instead'], ['--after CURSOR', 'go on where an earlier page ended'], ['-f, --follow', 'wait for more, until Ctrl-C'], ['--rebuild', 'make the index anew from the log'],
    ],
    example: 'cordon audit query --plugin indexnow --outcome refused --since 3d', exits: [DONE, ['66', 'there is no audit log']],
    load: async () => (await import('./audit-query.ts')).auditQuery,
  },
  {
    name: 'audit report', usage: '[--plugin NAME] [--since WHEN] --out FILE', summary: 'What happened, as one HTML page to read and to print',
    options: [['--plugin NAME', 'one plugin, and what happened around it; without it, all'], ['--since WHEN', 'as 2h, 3d, 2026-11-01 or an instant (24h)'], ['--until WHEN', 'the same (now)'], ['--out FILE', 'a file that does not exist yet; without it, the page goes to stdout'], ['--key, --with, --witness', 'for the verdict, as `audit verify` takes them'], ['--json', 'the same as data']],
    example: 'cordon audit report --plugin indexnow --since 3d --out r.html', exits: [DONE, ['66', 'there is no audit log'], ['73', 'the file exists already']],
    load: async () => (await import('./audit-report.ts')).auditReport(() => COMMANDS.find(({ name }) => name === 'audit verify')?.load() ?? Promise.reject(new Error('no such command'))),
  },
  {
    name: 'audit push', usage: '[--now] [--log-key]', summary: 'The newest checkpoint, to be kept anywhere else', options: [['--now', 'show it to the witnesses of cordon.yaml at once'], ['--log-key', 'instead: the key that a witness must know']],
    example: 'cordon audit push | mail -s checkpoint you@example.org', exits: [DONE, ['1', 'a witness did not answer'], ['2', 'a witness refused'], ['66', 'there is no audit log'], ['75', 'there is no checkpoint yet']],
    load: async () => (await import('./audit-push.ts')).auditPush,
  },
  {
    name: 'audit prove', usage: 'SEQ [--out FILE]', summary: 'A proof that one record stands in the sealed log', options: [['SEQ', 'the number of the record'], ['--out FILE', 'where to write it (standard output)']],
    example: 'cordon audit prove 4711 --out 4711.tlog-proof', exits: [DONE, ['66', 'there is no such record'], ['75', 'it is not sealed yet']],
    load: async () => (await import('./audit-prove.ts')).auditProve,
  },
  {
    name: 'audit key', usage: '[--confirm FINGERPRINT] [--qr]', summary: 'The first key of the audit log, to be kept elsewhere', options: [['--confirm FINGERPRINT', 'it was noted elsewhere; doctor asks until then'], ['--qr', 'as a QR code, too, where nobody sits at a terminal']],
    example: 'cordon audit key', exits: [DONE, ['66', 'there is no audit log'], ['78', 'another key was confirmed']],
    load: async () => (await import('./audit-key.ts')).auditKey,
  },
  {
    name: 'audit verify', usage: '[--key FINGERPRINT] [--with FILE]… [DIR] …', summary: 'Was the audit log changed, cut or reordered?',
    options: [
      ['--key FINGERPRINT', 'of the first key, as noted when the log began'], ['--with FILE', 'a text with saved checkpoints: mail box, chat export'],
      ['--witness FILE|KEY', 'a witness’s key, or a file with keys or its state'], ['--head SEQ:HASH', 'must still hold this record, as printed by verify'],
      ['--at TIME', 'when the copy was made, for ages'], ['--proof FILE', 'check what `cordon audit prove` wrote, with --key'],
      ['--evidence DIR', 'check what `cordon evidence` gathered, with --key'], ['DIR', 'a copy of the log’s directory (this host’s own)'],
    ],
    example: 'cordon audit verify --key SHA256:… --with mails.mbox', exits: [['0', 'whole'], ['2', 'tampered with'], ['3', 'an end that cannot be verified'], ['4', 'whole, but not everything was recorded']],
    load: async () => {
      const { auditVerify } = await import('./audit-verify.ts')
      return (args, io, context) => auditVerify(args, io, auditOptions(context))
    },
  },
  {
    name: 'witness', usage: '--state DIR --log KEY… [--listen ADDRESS:PORT] …', summary: 'Watch over the audit logs of other machines',
    options: [['--state DIR', 'its key and what it has seen; of its own user, 0700'], ['--log KEY', 'as `cordon audit push --log-key` prints it, or a file'], ['--listen ADDRESS:PORT', 'where it answers (127.0.0.1:8481)'], ['--name NAME', 'of its key (kept from the first start on)']],
    example: 'cordon witness --state /var/lib/witness --log logs.txt', exits: [['0', 'it was ended'], ['75', 'another one runs on this directory'], ['77', 'the directory is not for it alone'], ['78', 'what it remembers is damaged']],
    load: async () => (await import('./witness.ts')).witnessCommand,
  },
]

function act(name: 'start' | 'stop' | 'restart' | 'enable' | 'disable', summary: string): Command {
  return {
    name, usage: 'NAME…', summary, options: [NAME], example: `cordon ${name} indexnow`, exits: [DONE, ['66', 'there is no such plugin'], ['69', 'it failed, or the daemon does not run']],
    load: async () => (await import('./act.ts')).actCommand(name),
  }
}

function policyOptions({ config, tree }: CommandContext) {
  return { config, presetsDir: join(tree, 'policies') }
}

function auditOptions({ config, signal }: CommandContext) {
  return { dir: join(config.stateDir, 'audit'), signal }
}

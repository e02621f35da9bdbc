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
    options: [['--policy FILE', 'its policy; without one it gets nothing'], ['--memory SIZE', 'as 256M'], ['--cpu PERCENT', 'of one CPU, as 25%'], ['--tasks N', 'processes and threads'], ['--read PATH', 'a host path that it may read; may be repeated'], ['--env NAME=VALUE', 'may be repeated']],
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
    name: 'status', usage: '[NAME]', summary: 'Everything that is known of one plugin, or of all', options: [NAME], example: 'cordon status indexnow', exits: [DONE, ['69', 'there is no such plugin, or the daemon does not run']],
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
  act('start', 'Start a plugin, also after it gave up'),
  act('stop', 'Stop a plugin until it is started or the host restarts'),
  act('restart', 'Stop a plugin and start it again'),
  act('enable', 'Let a disabled plugin run again'),
  act('disable', 'Stop a plugin and keep it stopped, also across restarts'),
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
    name: 'policy check', usage: '[NAME|FILE…] [--resolve]', summary: 'All problems of one policy, or of all of this host', options: [['--resolve', 'also ask this host’s resolver for the names it allows']], example: 'cordon policy check ./indexnow.yaml', exits: [['0', 'nothing is wrong'], ['65', 'a policy is refused'], ['77', 'a file may be written by others than root']],
    load: async () => {
      const { policyCheck } = await import('./policy-check.ts')
      return (args, io, context) => policyCheck(args, io, policyOptions(context))
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
    name: 'audit tail', usage: '[-n N] [-f] [--plugin NAME] [--type T]', summary: 'The newest audit records', options: [['-n N', 'how many (20)'], ['-f', 'wait for more, until Ctrl-C'], ['--plugin NAME', 'of one plugin'], ['--type T', 'of one type, as isolation.attested']], example: 'cordon audit tail -f --plugin indexnow', exits: [DONE, ['66', 'there is no audit log']],
    load: async () => {
      const { auditTail } = await import('./audit-tail.ts')
      return (args, io, context) => auditTail(args, io, auditOptions(context))
    },
  },
  {
    name: 'audit verify', usage: '[--head SEQ:HASH] [FILE]', summary: 'Was the audit log changed, cut or reordered?', options: [['--head SEQ:HASH', 'must still contain this record, as an earlier verify printed it'], ['FILE', 'a copy of the log (this host’s own)']], example: 'cordon audit verify', exits: [['0', 'whole'], ['2', 'tampered with'], ['3', 'an end that cannot be verified'], ['4', 'whole, but it names gaps']],
    load: async () => {
      const { auditVerify } = await import('./audit-verify.ts')
      return (args, io, context) => auditVerify(args, io, auditOptions(context))
    },
  },
]

function act(name: 'start' | 'stop' | 'restart' | 'enable' | 'disable', summary: string): Command {
  return {
    name, usage: 'NAME…', summary, options: [NAME], example: `cordon ${name} indexnow`, exits: [DONE, ['69', 'there is no such plugin, it failed, or the daemon does not run']],
    load: async () => (await import('./act.ts')).actCommand(name),
  }
}

function policyOptions({ config, tree }: CommandContext) {
  return { config, presetsDir: join(tree, 'policies') }
}

function auditOptions({ config, signal }: CommandContext) {
  return { dir: join(config.stateDir, 'audit'), signal }
}

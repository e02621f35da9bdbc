import { createHash } from 'node:crypto'
import { closeSync, constants, createReadStream, fchmodSync, fsyncSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { finishRaw } from '../policy/load.ts'
import { parsePolicy } from '../policy/parse.ts'
import { PolicyError } from '../policy/problem.ts'
import type { CommandIo } from './io.ts'
import { loadOptions, readOptions, type PolicyCommandOptions } from './policy-options.ts'

/**
 * `cordon policy init NAME [--preset default] [--executable PATH] [--file FILE]`: a commented starter that grants nothing.
 * The executable's hash is pinned when it is there already. Never overwrites.
 * @throws CordonError USAGE_BAD_OPTION; PolicyError POLICY_EXISTS, POLICY_NOT_WRITTEN, POLICY_INVALID (a path that no policy may name, an unknown preset)
 */
export async function policyInit(args: readonly string[], io: CommandIo, options: PolicyCommandOptions): Promise<number> {
  const { values, positionals: [name, more] } = readOptions('policy init', args, {
    preset: { type: 'string', default: 'default' }, executable: { type: 'string' }, file: { type: 'string' },
  })
  if (name === undefined || more !== undefined) throw new CordonError('USAGE_BAD_OPTION', 'policy init: expected one plugin name')
  if (!isPluginName(name)) {
    throw new CordonError('USAGE_BAD_OPTION', `policy init: "${printable(name, 80)}" is no plugin name; expected 1 to 64 of a-z, 0-9 and \`-\`, not at the ends`)
  }
  const executable = values.executable === undefined ? `${options.config.pluginsDir}/${name}` : resolve(values.executable)
  const file = values.file === undefined ? `${options.config.policiesDir}/${name}.yaml` : resolve(values.file)
  const found = await inspect(executable)
  const text = starter(name, values.preset, executable, found, `${options.presetsDir}/policy.schema.json`)
  // What we write must be what we accept, its preset included.
  finishRaw(parsePolicy(text, file, options.config).raw, file, loadOptions(options, 'reported'))
  writePolicy(file, text)
  if (io.json) io.out(JSON.stringify({ file, plugin: name, executable, sha256: found.kind === 'file' ? found.sha256 : null }))
  else {
    io.out(`wrote ${file}`)
    if (found.kind === 'absent') io.err(`warning: ${printable(executable, 300)} does not exist yet, so its hash is not pinned`)
    io.out(`next: edit it, then run: cordon policy check ${file}`)
  }
  return 0
}

type Found = { readonly kind: 'file'; readonly sha256: string } | { readonly kind: 'directory' } | { readonly kind: 'absent' }

async function inspect(executable: string): Promise<Found> {
  const stat = statSync(executable, { throwIfNoEntry: false })
  if (stat === undefined) return { kind: 'absent' }
  if (stat.isDirectory()) return { kind: 'directory' }
  if (!stat.isFile()) throw new CordonError('USAGE_BAD_OPTION', `policy init: ${printable(executable, 300)} is neither a file nor a directory`)
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(executable)) hash.update(chunk as Buffer)
  return { kind: 'file', sha256: hash.digest('hex') }
}

function starter(name: PluginName, preset: string, executable: string, found: Found, schema: string): string {
  const pin = {
    file: found.kind === 'file' ? `  sha256: "${found.sha256}"   # what lay there when this file was written; another program does not start` : '',
    directory: '  entry: bin/plugin          # the program inside that directory\n  # sha256: TREE-HASH         # `cordon status` shows it after the first start; pin it then',
    absent: '  # sha256: HEX               # sha256sum of the program; pin it once it is there',
  }[found.kind]
  return `# yaml-language-server: $schema=${schema}
#
# What the plugin "${name}" may do. Whatever is not named here is refused; \`cordon policy explain ${name}\` says it in sentences.
# This file must belong to root and be writable by root alone.

plugin: ${name}
extends: ${JSON.stringify(preset)}
executable:
  path: ${JSON.stringify(executable)}
${pin}

# How much of the machine it may use; what is left out comes from the preset.
# limits:
#   MemoryMax: 256M            # above it, it is killed as a group
#   CPUQuota: 50%              # of one CPU
#   TasksMax: 64               # processes and threads
#   LimitNOFILE: 1024
#   TmpMax: 64M                # /tmp, counts against MemoryMax

# Host files that it may read, and why. Read-only, at the same path.
# read:
#   - { path: /srv/www, reason: the site that it checks }

# What it may reach on the network, and why; without this, nothing at all. \`mode: learn\` with \`until:\` finds out what it needs.
# egress:
#   allow:
#     - { host: api.example.org, ports: [443], reason: what it asks there }

# An interpreter or library outside /usr. Root-owned, read-only.
# runtime:
#   - { path: /opt/node, reason: runs the program }

# Host services that it may talk to.
# sockets:
#   - { path: /run/postgresql/.s.PGSQL.5432, reason: its own database }

# env: { LOG_LEVEL: info }

# What it may ask of the host, if its manifest asks for it too.
# api:
#   grants: [projects_read]

# Pages that strangers may reach without a login.
# http:
#   public_paths: [/hooks]

# restart: { on: failure, backoff: 1s..60s, start_limit: 5 in 10m }
`
}

/** Never over what is there. @throws PolicyError POLICY_EXISTS, POLICY_NOT_WRITTEN */
export function writePolicy(file: string, text: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 })
    const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    try {
      writeFileSync(fd, text)
      fchmodSync(fd, 0o644) // past the umask: readable to all, so that a policy can be reviewed; never a place for secrets
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    if (code === 'EEXIST') throw new PolicyError('POLICY_EXISTS', `${printable(file, 300)} exists already; it was left as it is`, { cause: error })
    throw new PolicyError('POLICY_NOT_WRITTEN', `${printable(file, 300)} cannot be written: ${code}`, { cause: error })
  }
}

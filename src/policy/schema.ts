import * as z from 'zod'
import { HOST_PERMISSIONS } from '../base/host-permissions.ts'
import { isPluginName } from '../base/ids.ts'
import { egress } from './schema-egress.ts'
import { faults, LIST_MAX, noDuplicates, reason, unit, type Fault } from './schema-parts.ts'
import { judgePath, wrongForm, type OwnPlaces, type PathUse } from './paths.ts'
import { UNENFORCEABLE } from './policy.ts'
import {
  BYTES_PATTERN, BYTES_PER_DAY_PATTERN, DURATION_RANGE_PATTERN, formatBytes, parseBytes, parseBytesPerDay, parseDurationRange, parsePercent, parseStartLimit, PERCENT_PATTERN,
  START_LIMIT_PATTERN, UnitError,
} from './units.ts'

/**
 * A policy file as an operator writes it. Every field may be left out except `plugin` and `executable`; leaving one out
 * never grants anything. Values stay as written, only checked; resolve.ts turns them into numbers.
 */
export type RawPolicy = z.infer<ReturnType<typeof policySchema>>
/** A preset of policies/: the same fields without the two that name a program. */
export type RawPreset = z.infer<ReturnType<typeof presetSchema>>
export type RawLimits = NonNullable<RawPreset['limits']>

export function policySchema(own: OwnPlaces) {
  return z.strictObject({ plugin: pluginName, executable: executable(own), ...common(own) })
    .describe('What one plugin may do under Cordon. Whatever is not named here is refused.')
}

export function presetSchema(own: OwnPlaces) {
  return z.strictObject(common(own)).describe('A starting point that policies name with `extends`. It names no program.')
}

const MiB = 2 ** 20

const pluginName = z.string().superRefine(faults((name) => (isPluginName(name) ? null : {
  code: 'POLICY_BAD_VALUE', message: 'expected 1 to 64 of a-z, 0-9 and `-`, not at the ends, and not a reserved name (plugins, cordon)',
}))).meta({ description: "The operator's name of the plugin: file name, URL and records use it. Must equal the file name without .yaml." })

const presetName = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/)
  .describe('A preset of policies/ to start from, by name. Its limits and grants hold unless this file says otherwise; lists are added up.')

function executable(own: OwnPlaces) {
  return z.strictObject({
    path: path('executable', own).describe('Absolute path of the program, or of a directory that holds it (then `entry` names it). It is copied while it is hashed; what was hashed is what runs.'),
    entry: z.string().superRefine(faults((entry) => {
      const wrong = entry.startsWith('/') ? 'it is absolute' : wrongForm(`/${entry}`)
      return wrong === null && entry !== '' ? null : { code: 'POLICY_UNSAFE_PATH', message: `${wrong ?? 'it is empty'}; expected a path inside the directory, as in bin/plugin` }
    })).optional().describe('The program inside `path`, when that is a directory: a relative path.'),
    sha256: z.string().regex(/^[0-9a-f]{64}$/).optional()
      .describe('Hex SHA-256 of the file (or the tree hash of the directory). A program that differs does not start. Without it, whatever lies at `path` runs and its hash is recorded.'),
  }).describe('The program. It runs only from a copy that Cordon made and hashed.')
}

function common(own: OwnPlaces) {
  return {
    extends: presetName.optional(),
    runtime: grants('runtime', own).describe('Root-owned trees that the program also needs, such as an interpreter; mounted read-only and executable at the same path. /usr is always there.'),
    limits: limits.optional().describe('How much of the machine it may use. Names and units are those of systemd.resource-control(5).'),
    read: grants('read', own).describe('Host files or directories it may read; mounted read-only at the same path.'),
    sockets: grants('socket', own).describe('Unix sockets of host services it may connect to; mounted at the same path.'),
    egress: egress.optional(),
    env: z.record(envName, envValue).superRefine(faults((env) => (Object.keys(env).length <= LIST_MAX ? null : {
      code: 'POLICY_OUT_OF_BOUNDS', message: `${Object.keys(env).length} variables; at most ${LIST_MAX} are accepted`,
    }))).optional().describe('Environment variables. The plugin sees these and HOME, PATH, TMPDIR and LANG, nothing of the host. Not for secrets.'),
    api: z.strictObject({
      grants: z.array(z.enum(HOST_PERMISSIONS)).max(HOST_PERMISSIONS.length).superRefine(faults(noDuplicates)).optional()
        .describe('Host permissions that it receives if its manifest asks for them.'),
      legacy: z.enum(['deny', 'grant']).optional()
        .describe('Whether `grants` also go to a plugin whose manifest is too old to ask. Default: deny.'),
    }).optional().describe('What it may ask of the host API over its channel.'),
    http: z.strictObject({
      public_paths: z.array(publicPath).max(32).superRefine(faults(noDuplicates)).optional()
        .describe('Path prefixes that anybody may reach without a login, if the manifest declares them too. By whole segments: /hooks covers /hooks/x, not /hooks-admin.'),
    }).optional().describe('Who may reach its pages.'),
    tripwires: z.literal([true, false, 'record', 'quarantine']).optional()
      .describe('Lay out a decoy name and a decoy secret that nothing honest touches. One touch is a critical record (`record`, or true), or that and quarantine at once (`quarantine`). Default: false.'),
    on_audit_loss: z.enum(['continue', 'pause', 'stop']).optional()
      .describe('While the audit log cannot be written: `pause` freezes it until it can, `stop` ends it and starts it again then, `continue` lets it run on behind its walls; what must be on record first, as each connection, is refused in any case. Default: continue.'),
    restart: z.strictObject({
      on: z.enum(['failure', 'always', 'never']).optional().describe('After which exits it is started again. Default: failure.'),
      backoff: z.string().superRefine(unit(parseDurationRange, ({ minMs, maxMs }) => (minMs >= 100 && maxMs <= 3_600_000 ? null : '100ms to 1h')))
        .optional().meta({ description: 'Shortest and longest wait before a restart, as in 1s..60s; doubled each time. Default: 1s..60s.', pattern: DURATION_RANGE_PATTERN }),
      start_limit: z.string().superRefine(unit(parseStartLimit, ({ count, windowMs }) => (
        count >= 1 && count <= 100 && windowMs >= 1000 && windowMs <= 7 * 86_400_000 ? null : '1 to 100 starts in 1s to 7d')))
        .optional().meta({ description: 'More starts than this in the time, and it is `failed (start-limit)` until an operator starts it. Default: 5 in 10m.', pattern: START_LIMIT_PATTERN }),
    }).optional().describe('What happens when it ends.'),
    unenforced: z.array(z.enum(UNENFORCEABLE)).max(UNENFORCEABLE.length).superRefine(faults(noDuplicates)).optional()
      .describe('Walls that this host cannot give and that you accept to miss, by name. `status`, audit and console show them.'),
  }
}

const limits = z.strictObject({
  MemoryMax: size(16 * MiB, 2 ** 40).optional().describe('Memory, 16M to 1T; above it the plugin is killed as a group. Swap is 0. Default: 256M.'),
  MemoryHigh: size(8 * MiB, 2 ** 40).optional().describe('Above it the kernel slows the plugin down and reclaims; below MemoryMax. Needs unified cgroups. Default: none.'),
  CPUQuota: z.string().superRefine(unit(parsePercent, (percent) => (percent >= 1 && percent <= 102_400 ? null : '1% to 102400%')))
    .optional().meta({ description: 'CPU time in percent of one CPU, 1% or more; 200% is two. Default: 100%.', pattern: PERCENT_PATTERN }),
  CPUWeight: whole(1, 10_000).optional().describe('Share of the CPU under contention, 1 to 10000. Default: 100.'),
  IOWeight: whole(1, 10_000).optional().describe('Share of the disk under contention, 1 to 10000. Default: none.'),
  IOReadBandwidthMax: bandwidth().optional().describe('Bytes per second read from the disk of the state directory, 64K to 1T; K, M, G to the base of 1000, as systemd has it. Default: none.'),
  IOWriteBandwidthMax: bandwidth().optional().describe('Bytes per second written to that disk; as above. Default: none.'),
  TasksMax: whole(4, 32_768).optional().describe('Processes and threads, 4 to 32768. Default: 64.'),
  LimitNOFILE: whole(16, 65_536).optional().describe('Open files of each process, 16 to 65536. Default: 1024.'),
  EgressMax: z.string().superRefine(unit(parseBytesPerDay, (bytes) => (bytes >= MiB && bytes <= 2 ** 44 ? null : '1M/day to 16T/day')))
    .optional().meta({ description: 'Bytes that may leave through the door per day (UTC), 1M/day to 16T/day; K, M, G to the base of 1024. Then the door is shut until midnight. Default: none.', pattern: BYTES_PER_DAY_PATTERN }),
  MaxConnections: whole(1, 1024).optional().describe('Connections open through the door at a time, 1 to 1024; as many again wait for a place, unread, and more are reset. Default: 256.'),
  TmpMax: size(MiB, 2 ** 38).optional().describe('Size of /tmp, which lies in memory and counts against MemoryMax, 1M to 256G. Default: 64M, or a quarter of MemoryMax if that is less.'),
}).superRefine((value, context) => {
  for (const [field, message] of limitConflicts(value)) context.addIssue({ code: 'custom', path: [field], message, params: { code: 'POLICY_CONFLICT' } })
})

/** Two limits that cannot hold together; also asked by resolve.ts, where one may come from a preset. */
export function limitConflicts(value: { readonly [K in 'MemoryMax' | 'MemoryHigh' | 'TmpMax']?: string | number | undefined }): [string, string][] {
  const found: [string, string][] = []
  const most = bytesOrNull(value.MemoryMax)
  const high = bytesOrNull(value.MemoryHigh)
  const tmp = bytesOrNull(value.TmpMax)
  if (most !== null && high !== null && high >= most) {
    found.push(['MemoryHigh', `is ${formatBytes(high)} and MemoryMax ${formatBytes(most)}; expected less than MemoryMax, else it never acts`])
  }
  if (most !== null && tmp !== null && tmp >= most) {
    found.push(['TmpMax', `is ${formatBytes(tmp)} and MemoryMax ${formatBytes(most)}; expected less, since a full /tmp would get the plugin killed instead of an error`])
  }
  return found
}

/** null for an absent value, and for a malformed one, which has a problem of its own already: zod asks here all the same. */
function bytesOrNull(value: string | number | undefined): number | null {
  if (value === undefined) return null
  try {
    return parseBytes(value, 1024)
  } catch (error) {
    if (error instanceof UnitError) return null
    throw error
  }
}

function grants(use: PathUse, own: OwnPlaces) {
  return z.array(z.strictObject({ path: path(use, own).describe('Absolute, normalised host path.'), reason }))
    .max(LIST_MAX).superRefine(faults((list) => noDuplicates(list.map((grant) => grant.path)))).optional()
}

function path(use: PathUse, own: OwnPlaces) {
  return z.string().superRefine(faults((value) => {
    const judged = judgePath(use, value, own)
    return judged.verdict === 'refuse' ? { code: 'POLICY_UNSAFE_PATH', message: `is refused: ${judged.why}` } : null
  }))
}

/** Set by Cordon (plan/compile.ts); another value would break the view that the walls promise. */
const SET_BY_CORDON = new Set(['HOME', 'PATH', 'TMPDIR'])
// LD_PRELOAD and its kin are accepted: they act on the plugin alone, which runs its own code anyway, and nothing there is setuid.
const envName = z.string().superRefine(faults((name) => {
  if (SET_BY_CORDON.has(name)) return { code: 'POLICY_BAD_VALUE', message: 'is set by Cordon and cannot be changed' }
  return /^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name) ? null : { code: 'POLICY_BAD_VALUE', message: 'is no variable name; expected letters, digits and `_`, not starting with a digit' }
}))
const envValue = z.string().superRefine(faults((value) => (
  value.length <= 8192 && !value.includes('\0') ? null : { code: 'POLICY_BAD_VALUE', message: 'expected at most 8192 characters and no NUL' }
)))

/** Protocol section 12.4: matched by whole segments, so `/` would open every page. */
const publicPath = z.string().superRefine(faults((value) => {
  const bad = (message: string): Fault => ({ code: 'POLICY_UNSAFE_PATH', message })
  if (!value.startsWith('/')) return bad('expected a path that starts with `/`')
  if (/^\/+$/.test(value)) return bad('`/` would open every page of the plugin to anybody; name the prefixes that must be public')
  if (value.length > 256) return bad('expected at most 256 characters')
  if (!/^[\x21-\x7e]+$/.test(value) || /[%?#\\]/.test(value)) return bad('expected plain characters: no space, `%`, `?`, `#` or `\\`, which could hide another path')
  const parts = value.slice(1).split('/')
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return bad('expected no empty, `.` or `..` segment and no slash at the end')
  if (parts[0]?.toLowerCase() === '_temps' || parts[0]?.toLowerCase() === '_events') return bad(`/${parts[0]} belongs to the host and is never public`)
  return null
}))

function size(least: number, most: number) {
  return z.union([z.string().meta({ pattern: BYTES_PATTERN }), z.number().meta({ type: 'integer' })])
    .superRefine(unit((value: string | number) => parseBytes(value, 1024), (bytes) => (bytes >= least && bytes <= most ? null : `${formatBytes(least)} to ${formatBytes(most)}`)))
}

function bandwidth() {
  return z.union([z.string().meta({ pattern: BYTES_PATTERN }), z.number().meta({ type: 'integer' })])
    .superRefine(unit((value: string | number) => parseBytes(value, 1000), (bytes) => (bytes >= 64_000 && bytes <= 1e12 ? null : '64K to 1T')))
}

function whole(least: number, most: number) {
  return z.int().min(least).max(most)
}

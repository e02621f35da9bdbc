import type { PluginName } from '../base/ids.ts'
import { isPluginName } from '../base/ids.ts'
import { egressConflict, resolveEgress } from './egress.ts'
import type { Parsed } from './parse.ts'
import type { Grant, Limits, Policy, Restart } from './policy.ts'
import { invalid, problemAt } from './problem.ts'
import { limitConflicts, type RawLimits, type RawPolicy, type RawPreset } from './schema.ts'
import { parseBytes, parseBytesPerDay, parseDurationRange, parsePercent, parseStartLimit } from './units.ts'

const MiB = 2 ** 20

/** What holds where neither policy nor preset says anything. All of it limits; none of it grants. */
const DEFAULTS = {
  MemoryMax: 256 * MiB,
  CPUQuota: 100,
  CPUWeight: 100,
  TasksMax: 64, MaxConnections: 256,
  LimitNOFILE: 1024,
  TmpMax: 64 * MiB,
  restartOn: 'failure',
  backoff: '1s..60s',
  startLimit: '5 in 10m',
} as const

/**
 * Every choice made explicit. Single values: the policy's own, else the nearest preset's, else the default. Lists are
 * added up; a path that both name is taken once, with the reason of the nearer file.
 * @param own what parsePolicy returned; its values are well-formed, so only what two files say together can still be wrong
 * @param presets the chain of `extends`, nearest first
 * @returns deep-frozen
 * @throws PolicyError POLICY_INVALID
 */
export function resolvePolicy(own: Parsed<RawPolicy>, presets: readonly Parsed<RawPreset>[]): Policy {
  const layers: readonly RawPreset[] = [own.raw, ...presets.map((preset) => preset.raw)]
  const written = layers.toReversed().reduce<RawLimits>((all, layer) => ({ ...all, ...withoutUndefined(layer.limits ?? {}) }), {})
  const conflicts = limitConflicts(written)
  if (conflicts.length > 0) {
    const from = own.raw.extends === undefined ? '' : ` (with the preset "${own.raw.extends}")`
    throw invalid(own.file, conflicts.map(([field, message]) => (
      problemAt(own.file, own.locate(['limits', field]), 'POLICY_CONFLICT', `"limits.${field}" ${message}${from}`)
    )))
  }
  const egress = resolveEgress(layers.map((layer) => layer.egress))
  const tooMuch = egressConflict(egress)
  if (tooMuch !== null) throw invalid(own.file, [problemAt(own.file, own.locate(['egress']), 'POLICY_OUT_OF_BOUNDS', `"egress.allow" ${tooMuch}`)])
  return deepFreeze<Policy>({
    plugin: pluginName(own.raw.plugin),
    preset: own.raw.extends ?? null,
    executable: { path: own.raw.executable.path, entry: own.raw.executable.entry ?? null, sha256: own.raw.executable.sha256 ?? null },
    runtime: grants(layers.map((layer) => layer.runtime)),
    limits: resolveLimits(written),
    read: grants(layers.map((layer) => layer.read)),
    sockets: grants(layers.map((layer) => layer.sockets)),
    egress,
    env: Object.fromEntries(layers.toReversed().flatMap((layer) => Object.entries(layer.env ?? {}))),
    api: {
      grants: union(layers.map((layer) => layer.api?.grants)),
      legacy: first(layers.map((layer) => layer.api?.legacy)) ?? 'deny',
    },
    http: { publicPaths: union(layers.map((layer) => layer.http?.public_paths)) },
    tripwires: resolveTripwires(first(layers.map((layer) => layer.tripwires)) ?? false),
    onAuditLoss: first(layers.map((layer) => layer.on_audit_loss)) ?? 'continue',
    restart: resolveRestart(layers),
    unenforced: union(layers.map((layer) => layer.unenforced)),
  })
}

function resolveTripwires(written: boolean | 'record' | 'quarantine'): Policy['tripwires'] {
  return typeof written === 'string' ? written : written ? 'record' : 'off'
}

function resolveLimits(written: RawLimits): Limits {
  const bytes = (value: string | number | undefined, base: 1024 | 1000 = 1024): number | null => (value === undefined ? null : parseBytes(value, base))
  const memoryMax = bytes(written.MemoryMax) ?? DEFAULTS.MemoryMax
  return {
    MemoryMax: memoryMax,
    MemoryHigh: bytes(written.MemoryHigh),
    CPUQuota: written.CPUQuota === undefined ? DEFAULTS.CPUQuota : parsePercent(written.CPUQuota),
    CPUWeight: written.CPUWeight ?? DEFAULTS.CPUWeight,
    IOWeight: written.IOWeight ?? null,
    IOReadBandwidthMax: bytes(written.IOReadBandwidthMax, 1000),
    IOWriteBandwidthMax: bytes(written.IOWriteBandwidthMax, 1000),
    TasksMax: written.TasksMax ?? DEFAULTS.TasksMax,
    LimitNOFILE: written.LimitNOFILE ?? DEFAULTS.LimitNOFILE,
    // /tmp is memory: filling it must end in ENOSPC, not in an OOM kill.
    TmpMax: bytes(written.TmpMax) ?? Math.min(DEFAULTS.TmpMax, Math.floor(memoryMax / 4)),
    MaxConnections: written.MaxConnections ?? DEFAULTS.MaxConnections,
    EgressMax: written.EgressMax === undefined ? null : parseBytesPerDay(written.EgressMax),
  }
}

function resolveRestart(layers: readonly RawPreset[]): Restart {
  const backoff = parseDurationRange(first(layers.map((layer) => layer.restart?.backoff)) ?? DEFAULTS.backoff)
  return {
    on: first(layers.map((layer) => layer.restart?.on)) ?? DEFAULTS.restartOn,
    backoffMinMs: backoff.minMs,
    backoffMaxMs: backoff.maxMs,
    startLimit: parseStartLimit(first(layers.map((layer) => layer.restart?.start_limit)) ?? DEFAULTS.startLimit),
  }
}

function first<T>(values: readonly (T | undefined)[]): T | undefined {
  return values.find((value) => value !== undefined)
}

function union<T>(lists: readonly (readonly T[] | undefined)[]): T[] {
  return [...new Set(lists.flatMap((list) => list ?? []))]
}

function grants(lists: readonly (readonly Grant[] | undefined)[]): Grant[] {
  const byPath = new Map<string, Grant>()
  for (const { path, reason } of lists.flatMap((list) => list ?? [])) {
    if (!byPath.has(path)) byPath.set(path, { path, reason })
  }
  return [...byPath.values()]
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as T
}

function pluginName(text: string): PluginName {
  if (!isPluginName(text)) throw new TypeError('the schema lets only plugin names through')
  return text
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const item of Object.values(value)) deepFreeze(item)
  }
  return value
}

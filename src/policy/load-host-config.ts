import { printable } from '../base/printable.ts'
import { parseSinkAddress, type ExportSink } from './export-sink.ts'
import { parseListen, type RawHostConfig } from './host-config-schema.ts'
import type { HostConfig } from './host-config.ts'
import { parseHostConfig } from './parse.ts'
import { PolicyError, type PolicyWarning } from './problem.ts'
import { readTrustedFile, type Ownership } from './trusted-file.ts'
import { parseBytes, parseDuration } from './units.ts'

const DAY_MS = 86_400_000
export const HOST_CONFIG_FILE = '/etc/cordon/cordon.yaml'

export const DEFAULT_FIRST_UID = 1_880_000_000

/** What holds without a configuration file. */
export const DEFAULT_HOST_CONFIG: HostConfig = Object.freeze({
  listen: Object.freeze({ host: '127.0.0.1', port: 8480 }),
  policiesDir: '/etc/cordon/policies',
  pluginsDir: '/var/lib/cordon/plugins',
  stateDir: '/var/lib/cordon',
  runDir: '/run/cordon',
  runtime: Object.freeze({ kind: 'auto', path: null }),
  uids: Object.freeze({ first: DEFAULT_FIRST_UID, count: 65_536 }),
  unknown: 'wait',
  forwardedUser: null,
  audit: Object.freeze({ export: Object.freeze([]), witnesses: Object.freeze([]), segmentBytes: 64 * 1024 ** 2, segmentAgeMs: 7 * DAY_MS, keepMs: 400 * DAY_MS, maxBytes: 10 * 1024 ** 3, sealIntervalS: 60 }),
})

export interface LoadedHostConfig {
  readonly config: HostConfig
  /** The file that was read; null: there is none, the defaults hold. */
  readonly file: string | null
  readonly distrust: readonly string[]
  readonly warnings: readonly PolicyWarning[]
}

/**
 * @param file absolute path; an absent file means the defaults, an unreadable or invalid one is an error
 * @param required true when the operator named the file: then it must exist
 * @throws PolicyError POLICY_UNREADABLE, POLICY_UNTRUSTED, POLICY_INVALID, and POLICY_ABSENT when required
 */
export function loadHostConfig(file: string = HOST_CONFIG_FILE, ownership: Ownership = 'required', required = file !== HOST_CONFIG_FILE): LoadedHostConfig {
  let read
  try {
    read = readTrustedFile(file, ownership)
  } catch (error) {
    if (error instanceof PolicyError && error.code === 'POLICY_ABSENT' && !required) return { config: DEFAULT_HOST_CONFIG, file: null, distrust: [], warnings: [] }
    throw error
  }
  const { raw, warnings } = parseHostConfig(read.text, printable(file, 300))
  const standard = DEFAULT_HOST_CONFIG
  const config: HostConfig = Object.freeze({
    listen: Object.freeze(raw.listen === undefined ? standard.listen : (parseListen(raw.listen) ?? standard.listen)),
    policiesDir: raw.policies_dir ?? standard.policiesDir,
    pluginsDir: raw.plugins_dir ?? (raw.state_dir === undefined ? standard.pluginsDir : `${raw.state_dir}/plugins`),
    stateDir: raw.state_dir ?? standard.stateDir,
    runDir: raw.run_dir ?? standard.runDir,
    runtime: Object.freeze({ kind: raw.runtime?.kind ?? standard.runtime.kind, path: raw.runtime?.path ?? null }),
    uids: Object.freeze({ first: raw.uids?.first ?? standard.uids.first, count: raw.uids?.count ?? standard.uids.count }),
    unknown: raw.unknown ?? standard.unknown,
    forwardedUser: raw.forwarded_user === undefined ? standard.forwardedUser : Object.freeze({ header: raw.forwarded_user.header, from: Object.freeze([...raw.forwarded_user.from]) }),
    audit: Object.freeze(auditOf(raw.audit ?? {})),
  })
  return { config, file, distrust: read.distrust, warnings }
}

/** @param raw checked by the schema */
function auditOf({ export: sinks = [], witnesses = [], segment_size, segment_age, keep, max_size, seal_interval }: NonNullable<RawHostConfig['audit']>): HostConfig['audit'] {
  const standard = DEFAULT_HOST_CONFIG.audit
  const ms = (written: string | undefined, otherwise: number): number => (written === undefined ? otherwise : parseDuration(written))
  const bytes = (written: string | undefined, otherwise: number): number => (written === undefined ? otherwise : parseBytes(written, 1024))
  return {
    export: Object.freeze(sinks.flatMap(sinkOf)), witnesses: Object.freeze(witnesses.map((witness) => Object.freeze({ ...witness }))),
    segmentBytes: bytes(segment_size, standard.segmentBytes), segmentAgeMs: ms(segment_age, standard.segmentAgeMs),
    keepMs: ms(keep, standard.keepMs), maxBytes: bytes(max_size, standard.maxBytes), sealIntervalS: ms(seal_interval, standard.sealIntervalS * 1000) / 1000,
  }
}

/** @param raw checked by the schema */
function sinkOf(raw: { readonly kind: ExportSink['kind']; readonly address?: string | undefined; readonly tls?: boolean | undefined; readonly ca?: string | undefined }): ExportSink[] {
  if (raw.kind === 'journald') return [{ kind: 'journald' }]
  const address = parseSinkAddress(raw.address ?? '')
  return address === null ? [] : [{ kind: 'syslog', ...address, tls: raw.tls ?? true, ca: raw.ca ?? null }]
}

import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { canonicalJson, MAX_DEPTH } from '../base/canonical-json.ts'
import { CATALOGUE } from './catalogue.ts'
import type { AuditEvent, AuditOrigin, AuditType } from './record.ts'
import { hashSecret } from './secret.ts'

/** When a record was accepted. Both clocks: the wall clock can be set back, the monotonic one restarts with the boot. */
export interface Stamp {
  /** Milliseconds since the Unix epoch. */
  readonly wallMs: number
  /** CLOCK_MONOTONIC in milliseconds. */
  readonly monoMs: number
  /** /proc/sys/kernel/random/boot_id */
  readonly boot: string
}

/**
 * Longest record in bytes, without its newline: tlog-tiles stores an entry's length in 16 bits
 * (c2sp.org/tlog-tiles, "Log Entries").
 */
export const MAX_ENTRY_BYTES = 65_535
/** `prev` of the first record of a log. */
export const GENESIS_HASH = '0'.repeat(64)

/** A record that still lacks its place in the chain: the text around `prev` and `seq`. */
export interface PreparedEntry {
  readonly parts: readonly [string, string, string]
  /** Upper bound of the finished record, newline included. */
  readonly bytes: number
}

/**
 * Event to one canonical line, see FORMAT.md. The order of the keys is that of RFC 8785, so splitting the text
 * at `prev` and `seq` lets a record be prepared (and refused) when it arrives, and chained when it is written.
 * @param event its texts may be attacker-controlled and are made printable here, whatever the caller did
 * @param salt  key of what stands for values that may be secret (secret.ts)
 * @throws CordonError AUDIT_BAD_EVENT for an unknown type, a float or another value outside the subset
 */
export function prepareEntry(event: AuditEvent, origin: AuditOrigin, stamp: Stamp, salt: Uint8Array): PreparedEntry {
  const { type, plugin, run, policyDigest, ...rest } = event as { readonly type: string } & Record<string, unknown>
  const row = CATALOGUE.get(type as AuditType)
  if (row === undefined) throw new CordonError('AUDIT_BAD_EVENT', `a record of unknown type "${printable(String(type), 64)}"`)
  try {
    // Worst case of what is not `data`: fixed texts of about 700 bytes, `plugin` of 64 characters that all turn into \u{10ffff}.
    const data = fitData(withoutSecrets(rest, row.secret, salt), MAX_ENTRY_BYTES - 4096)
    const head = `{"boot":${canonicalJson(printable(stamp.boot, 64))},"class_uid":${row.ocsf.uid},"data":${data},"mono_ms":${canonicalJson(stamp.monoMs)}`
      + `,"origin":${canonicalJson(origin)},"plugin":${label(plugin)},"policy":${label(policyDigest)},"prev":"`
    const middle = `","run":${label(run)},"seq":`
    const tail = `,"time":${canonicalJson(new Date(stamp.wallMs).toISOString())},"type":${canonicalJson(type)},"v":1}`
    return { parts: [head, middle, tail], bytes: Buffer.byteLength(head) + middle.length * 4 + tail.length + 64 + 16 + 1 }
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw new CordonError('AUDIT_BAD_EVENT', `${type}: ${printable(error.message)}`, { cause: error })
    throw error
  }
}

function withoutSecrets(fields: Record<string, unknown>, secret: ReadonlySet<string>, salt: Uint8Array): Record<string, unknown> {
  if (secret.size === 0) return fields
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, secret.has(key) ? hashSecret(value, salt) : value]))
}

function label(value: unknown): string {
  return value === undefined || value === null ? 'null' : canonicalJson(printable(String(value), 64))
}

/** Characters per text, entries per list or object: tried in turn until the record fits. The last level keeps nothing. */
const CUTS = [{ text: 4096, entries: 1024 }, { text: 1024, entries: 128 }, { text: 256, entries: 32 }, { text: 64, entries: 16 }] as const
/** Levels of nesting in `data` that are kept; the record itself adds one. */
const DATA_DEPTH = Math.min(8, MAX_DEPTH - 1)

/**
 * `data` as canonical text within `limit` bytes. What had to be shortened is said in the record itself: texts end in "…"
 * and `"~cut": level` stands in `data` (level 1 to 4 as in CUTS, 5: nothing was kept). Keys of the caller cannot start with "~".
 */
function fitData(fields: Record<string, unknown>, limit: number): string {
  for (const [index, cut] of CUTS.entries()) {
    const shortened = { cut: false }
    const data = clean(fields, cut, 0, shortened) as Record<string, unknown>
    if (shortened.cut) data['~cut'] = index + 1
    const text = canonicalJson(data)
    if (Buffer.byteLength(text) <= limit) return text
  }
  return `{"~cut":${CUTS.length + 1}}`
}

function clean(value: unknown, cut: (typeof CUTS)[number], depth: number, shortened: { cut: boolean }): unknown {
  if (typeof value === 'string') {
    if (value.length > cut.text) shortened.cut = true
    return printable(value, cut.text)
  }
  if (typeof value !== 'object' || value === null) return value
  if (depth >= DATA_DEPTH) {
    shortened.cut = true
    return '…'
  }
  if (Array.isArray(value)) {
    if (value.length > cut.entries) shortened.cut = true
    return value.slice(0, cut.entries).map((item: unknown) => clean(item, cut, depth + 1, shortened))
  }
  // No prototype, or a key named __proto__ would set one instead of being recorded.
  const out = Object.create(null) as Record<string, unknown>
  let kept = 0
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue
    const name = printable(key, 64).replace(/^~/, '_')
    if (kept === cut.entries || Object.hasOwn(out, name)) {
      shortened.cut = true
      continue
    }
    out[name] = clean(item, cut, depth + 1, shortened)
    kept += 1
  }
  return out
}

/** A line that is a record by itself; whether it fits its neighbours is verify.ts's question. */
export interface VerifiedRecord {
  readonly seq: number
  readonly prev: string
  readonly boot: string
  readonly monoMs: number
  readonly time: string
  readonly type: string
  readonly data: { readonly [key: string]: unknown }
}

const KEYS = 'boot,class_uid,data,mono_ms,origin,plugin,policy,prev,run,seq,time,type,v'
const ORIGINS = ['launcher', 'gateway', 'door', 'operator']
const HASH = /^[0-9a-f]{64}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const TYPE = /^[a-z0-9_]{1,32}(?:\.[a-z0-9_]{1,32}){0,3}$/
const DEPTH_CAP = 32

/** @param bytes one line, attacker-controlled @returns the record, or what is wrong with it */
export function readRecord(bytes: Buffer): VerifiedRecord | string {
  let text: string
  let value: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    value = JSON.parse(text)
  } catch {
    return 'the line is not JSON in UTF-8'
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'the line is not a JSON object'
  // Byte-exact: also catches duplicate keys, other key orders, white space and other spellings of one text.
  if (serialize(value, 0) !== text) return 'the line is not in canonical form'
  const r = value as Record<string, unknown>
  if (Object.keys(r).join(',') !== KEYS) return `the record does not have exactly the fields ${KEYS}`
  return shapeProblem(r) ?? {
    seq: r['seq'] as number, prev: r['prev'] as string, boot: r['boot'] as string, monoMs: r['mono_ms'] as number,
    time: r['time'] as string, type: r['type'] as string, data: r['data'] as Record<string, unknown>,
  }
}

function shapeProblem(r: Record<string, unknown>): string | null {
  const { v, seq, prev, boot, mono_ms: mono, time, type, class_uid: uid, origin, data } = r
  if (v !== 1) return 'v is not 1: written by another version of Cordon, or changed'
  if (!isCount(seq)) return 'seq is not a count'
  if (typeof prev !== 'string' || !HASH.test(prev)) return 'prev is not a SHA-256 in hex'
  if (typeof boot !== 'string' || boot === '') return 'boot is not a boot id'
  if (!isCount(mono)) return 'mono_ms is not a count'
  if (typeof time !== 'string' || !isTime(time)) return 'time is not RFC 3339 in UTC with milliseconds'
  // Which types there are and what they hold is the writer's catalogue; a log may be older or newer than this program.
  if (typeof type !== 'string' || !TYPE.test(type)) return 'type is not the name of a type'
  if (!isCount(uid)) return 'class_uid is not a count'
  if (typeof origin !== 'string' || !ORIGINS.includes(origin)) return 'origin is none of launcher, gateway, door, operator'
  for (const key of ['plugin', 'run', 'policy']) if (r[key] !== null && typeof r[key] !== 'string') return `${key} is neither a text nor null`
  return typeof data === 'object' && data !== null && !Array.isArray(data) ? null : 'data is not an object'
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isTime(text: string): boolean {
  return TIME.test(text) && !Number.isNaN(Date.parse(text)) && new Date(text).toISOString() === text
}

/** RFC 8785 once more, on purpose not the writer's: null means that the value has no canonical form in our subset. */
function serialize(value: unknown, depth: number): string | null {
  if (depth > DEPTH_CAP) return null
  if (value === null || value === true || value === false) return String(value)
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value.toFixed(0) : null
  if (typeof value === 'string') return quote(value)
  const pieces: string[] = []
  if (Array.isArray(value)) {
    for (const item of value as unknown[]) {
      const piece = serialize(item, depth + 1)
      if (piece === null) return null
      pieces.push(piece)
    }
    return `[${pieces.join()}]`
  }
  const object = value as Record<string, unknown>
  for (const key of Object.keys(object).sort()) {
    const name = quote(key)
    const piece = serialize(object[key], depth + 1)
    if (name === null || piece === null) return null
    pieces.push(`${name}:${piece}`)
  }
  return `{${pieces.join()}}`
}

// RFC 8785 section 3.2.2.2: these and no others are escaped.
const SHORT: Readonly<Record<string, string>> = { '"': '\\"', '\\': '\\\\', '\b': '\\b', '\t': '\\t', '\n': '\\n', '\f': '\\f', '\r': '\\r' }

function quote(text: string): string | null {
  if (/\p{Surrogate}/u.test(text)) return null
  return `"${text.replace(/["\\\u0000-\u001f]/g, (c) => SHORT[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`
}

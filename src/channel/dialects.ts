/**
 * The three dialects of the channel (protocol 10.2), told apart per message: T typed (`call` object), L legacy (`method` and
 * `params`), Y Python's variant of L (string id, or no `type`). A plugin's handshake generation says nothing about them.
 */
export type Dialect = 'T' | 'L' | 'Y'

/** Echoed with its JSON type unchanged; unsigned 64 bits do not fit a double, hence bigint. */
export type RequestId = number | bigint | string

export type Inbound =
  | { readonly kind: 'call'; readonly dialect: Dialect; readonly id: RequestId; readonly method: string; readonly params: unknown }
  /** Not a call that we know, but its sender waits for an answer to this id. */
  | { readonly kind: 'unknown'; readonly id: RequestId; readonly reason: string }
  | { readonly kind: 'ignore'; readonly reason: string }

export type ChannelErrorCode = 'method_not_found' | 'invalid_params' | 'permission_denied' | 'not_found' | 'internal' | 'unauthenticated'
export type Outcome = { readonly ok: unknown } | { readonly code: ChannelErrorCode; readonly message: string }

const MAX_ID_CHARACTERS = 128
const MAX_METHOD_CHARACTERS = 128
/** Longest message with an id beyond 2^53: to read such a one exactly takes a second per megabyte, and all plugins would wait. No SDK gets there. */
const MAX_LARGE_ID_CHARACTERS = 65_536
const MAX_U64 = 0xffff_ffff_ffff_ffffn
/** Where an integer id is looked for in text that is not JSON. */
const SCAN_CHARACTERS = 4096

/** @param text one text frame; attacker-controlled, at most MAX_MESSAGE_BYTES. Never throws. */
export function decodeMessage(text: string): Inbound {
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch {
    return unreadable(text, 'not JSON') // answered with an error where an id can be made out
  }
  if (!isObject(message)) return { kind: 'ignore', reason: 'not a JSON object' }
  const { type, call } = message
  const id = readId(message['id'], text)
  if (id === null) return { kind: 'ignore', reason: 'no usable id' }
  if (type !== undefined && type !== 'request') return unknown(id, 'an unknown type')
  if (isObject(call)) {
    const { method, params } = call
    return isMethod(method) ? { kind: 'call', dialect: 'T', id, method, params: params ?? {} } : unknown(id, '`call` without a method')
  }
  const { method, params } = message
  if (!isMethod(method)) return unknown(id, 'neither `call` nor `method`')
  const dialect = typeof id === 'string' || type === undefined ? 'Y' : 'L'
  return { kind: 'call', dialect, id, method, params: params ?? {} }
}

/** The answer to a call, in the dialect that it came in. T repeats the method, or the SDK takes it for a protocol mismatch. */
export function encodeAnswer(dialect: Dialect, id: RequestId, method: string, outcome: Outcome): string {
  const body = 'ok' in outcome ? { result: outcome.ok ?? null } : { error: { code: outcome.code, message: outcome.message } }
  if (dialect !== 'T') return frame(id, body)
  return frame(id, { outcome: 'ok' in outcome ? { ok: { method, result: outcome.ok ?? null } } : { err: body.error } })
}

/** `method_not_found` for a message of no known dialect: one frame that typed and legacy decoders both read as a failure. */
export function encodeUnknown(id: RequestId): string {
  const error = { code: 'method_not_found', message: 'the host does not know this message' }
  return frame(id, { error, outcome: { err: error } })
}

function frame(id: RequestId, rest: Record<string, unknown>): string {
  const idText = typeof id === 'string' ? JSON.stringify(id) : String(id)
  return `{"type":"response","id":${idText},${JSON.stringify(rest).slice(1)}`
}

function readId(id: unknown, text: string): RequestId | null {
  if (typeof id === 'string') return id.length <= MAX_ID_CHARACTERS ? id : null
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0) return null
  if (Number.isSafeInteger(id)) return id
  return id <= Number(MAX_U64) ? readLargeId(text) : null
}

/** JSON.parse rounded the number, so it is read again from the source text (the reviver's third argument). */
function readLargeId(text: string): bigint | null {
  if (text.length > MAX_LARGE_ID_CHARACTERS) return null
  let source = ''
  try {
    const exact: unknown = JSON.parse(text, function (this: unknown, key, value: unknown, context?: { readonly source?: string }) {
      return key === 'id' && typeof value === 'number' ? { source: context?.source ?? '' } : value
    })
    if (isObject(exact) && isObject(exact['id']) && typeof exact['id']['source'] === 'string') source = exact['id']['source']
  } catch {
    return null // a reviver recurses, and the text may be nested deeper than the stack: then there is no usable id
  }
  if (!/^[0-9]{1,20}$/.test(source)) return null
  const id = BigInt(source)
  return id <= MAX_U64 ? id : null
}

function unreadable(text: string, reason: string): Inbound {
  const digits = /"id"\s*:\s*([0-9]{1,20})(?![0-9.eE])/.exec(text.slice(0, SCAN_CHARACTERS))?.[1]
  if (digits === undefined || BigInt(digits) > MAX_U64) return { kind: 'ignore', reason }
  return unknown(BigInt(digits), reason)
}

function unknown(id: RequestId, reason: string): Inbound {
  // A string id is Python's; without a method there is no call of its dialect to answer.
  return typeof id === 'string' ? { kind: 'ignore', reason } : { kind: 'unknown', id, reason }
}

function isMethod(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_METHOD_CHARACTERS
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

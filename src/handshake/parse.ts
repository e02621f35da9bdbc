import { CordonError } from '../errors.ts'
import { printable } from '../base/printable.ts'
import { parseManifest } from './parse-manifest.ts'
import type { Manifest } from './manifest.ts'

/** How a run was started (protocol section 6): generation 2, generation 1, generation 1 with a placeholder database URL. */
export type ArgumentStyle = '2' | '1' | '1db'
export type Generation = '1' | '2'

export interface FirstLine {
  readonly generation: Generation
  readonly manifest: Manifest
}

export interface ReadyLine {
  readonly hasUi: boolean
  /** null: none was sent, or an unusable one (then `openapiProblem` says why and the plugin starts all the same). */
  readonly openapi: unknown
  readonly openapiProblem: string | null
}

/** Deepest nesting and most values of an OpenAPI document: whoever walks or serialises it must not run out of stack or time. */
const MAX_OPENAPI_DEPTH = 64
const MAX_OPENAPI_VALUES = 100_000

/**
 * `hello` (generation 2) or `manifest` (generation 1), protocol sections 4.1 and 5. A `manifest` line is accepted from a run with
 * generation 2 arguments too (section 6 step 2); the reverse never happens with a known build and is refused.
 * @param line without newline; attacker-controlled
 * @throws CordonError HANDSHAKE_MALFORMED, HANDSHAKE_VERSION, HANDSHAKE_MANIFEST
 */
export function parseFirstLine(line: Buffer, style: ArgumentStyle): FirstLine {
  const message = parseObject(line, 'the first line of stdout')
  if (message['type'] === 'hello') {
    if (style !== '2') throw malformed('a generation 1 start was answered with `hello`; expected a `manifest` line')
    checkVersion(message['protocol_version'], 'hello')
    return { generation: '2', manifest: parseManifest(message['manifest'], { requiresDbWhenAbsent: false }) }
  }
  if (message['type'] === 'manifest') {
    // The build that needs a database argument at all is the first series, where an absent key meant true.
    return { generation: '1', manifest: parseManifest(message, { requiresDbWhenAbsent: style === '1db' }) }
  }
  throw malformed(`the first line of stdout has the type ${show(message['type'])}; expected "hello"${style === '2' ? '' : ' or "manifest"'}`)
}

/**
 * `ready`, protocol sections 4.3 and 5.
 * @throws CordonError HANDSHAKE_MALFORMED, HANDSHAKE_VERSION, HANDSHAKE_NOT_READY (`ready` is false)
 */
export function parseReadyLine(line: Buffer, generation: Generation): ReadyLine {
  const message = parseObject(line, 'the second line of stdout')
  if (message['type'] !== 'ready') throw malformed(`the second line of stdout has the type ${show(message['type'])}; expected "ready"`)
  if (generation === '2') checkVersion(message['protocol_version'], 'ready')
  const { ready, has_ui: hasUi, openapi } = message
  if (typeof ready !== 'boolean') throw malformed(`ready.ready is ${show(ready)}; expected true or false`)
  if (typeof hasUi !== 'boolean') throw malformed(`ready.has_ui is ${show(hasUi)}; expected true or false`)
  if (!ready) throw new CordonError('HANDSHAKE_NOT_READY', 'the plugin reported that it is not ready (`"ready": false`)')
  const openapiProblem = openapi === undefined ? null : findOpenapiProblem(openapi)
  return { hasUi, openapi: openapiProblem === null ? (openapi ?? null) : null, openapiProblem }
}

function parseObject(line: Buffer, where: string): Record<string, unknown> {
  let text: string
  try {
    // A byte order mark is kept, so that JSON.parse refuses it like any other stray character.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(line)
  } catch (cause) {
    throw new CordonError('HANDSHAKE_MALFORMED', `${where} is not UTF-8`, { cause })
  }
  if (text.trim() === '') throw malformed(`${where} is blank; expected one JSON object`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new CordonError('HANDSHAKE_MALFORMED', `${where} is not JSON: "${printable(text, 80)}"; logs belong on stderr`, { cause })
  }
  if (!isObject(value)) throw malformed(`${where} is not a JSON object: ${show(value)}`)
  return value
}

function checkVersion(version: unknown, where: string): void {
  if (version !== 2) throw new CordonError('HANDSHAKE_VERSION', `${where}.protocol_version is ${show(version)}; this host speaks 2`)
}

function findOpenapiProblem(document: unknown): string | null {
  if (!isObject(document)) return `it is ${show(document)}, not an object`
  if (typeof document['openapi'] !== 'string' || !document['openapi'].startsWith('3.')) return `its version is ${show(document['openapi'])}, not 3.x`
  if (!isObject(document['paths'])) return 'it has no `paths` object'
  let level: unknown[] = [document]
  let seen = 0
  for (let depth = 0; level.length > 0; depth += 1) {
    seen += level.length
    if (depth > MAX_OPENAPI_DEPTH) return `it is nested deeper than ${MAX_OPENAPI_DEPTH} levels`
    if (seen > MAX_OPENAPI_VALUES) return `it has more than ${MAX_OPENAPI_VALUES} values`
    level = level.flatMap((value) => (typeof value === 'object' && value !== null ? Object.values(value) : []))
  }
  return null
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value in a message: what it is, never more than a few characters of it. */
function show(value: unknown): string {
  if (value === undefined) return 'absent'
  if (typeof value === 'string') return `"${printable(value, 40)}"`
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value)
  return Array.isArray(value) ? 'a list' : 'an object'
}

function malformed(message: string): CordonError {
  return new CordonError('HANDSHAKE_MALFORMED', message)
}

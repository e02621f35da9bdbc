import type { PluginName } from '../base/ids.ts'
import type { Endpoint } from '../registry/registry.ts'
import { parseTarget } from './paths.ts'

/**
 * One document for the host and its running plugins (protocol section 15, "replacement"): paths under `/x/NAME`, component names
 * with the plugin's in front and `$ref`s to match, no `servers`, no `security`. A plugin's document is up to 2 MiB of hostile JSON:
 * it is copied within limits, and left out as a whole when it breaks one.
 */
export interface OpenApiDocument {
  readonly openapi: '3.1.0'
  readonly info: { readonly title: string; readonly version: string }
  readonly servers: readonly { readonly url: string }[]
  readonly security: readonly Record<string, readonly string[]>[]
  readonly tags: readonly { readonly name: string; readonly description?: string }[]
  readonly paths: Record<string, unknown>
  readonly components: Record<string, Record<string, unknown>>
  /** Plugins whose document was left out, and why. */
  readonly 'x-cordon-omitted': readonly { readonly plugin: string; readonly reason: string }[]
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** Per plugin. A generated document of a large service has some 10,000 values. */
const VALUES_MAX = 50_000
const DEPTH_MAX = 40
const TEXT_MAX = 10_000
const CHARS_MAX = 512 * 1024
const PATHS_MAX = 500
/** All plugins together; what comes after is left out and named. */
const TOTAL_CHARS_MAX = 8 * 1024 * 1024

const COMPONENT_KINDS = ['schemas', 'responses', 'parameters', 'examples', 'requestBodies', 'headers', 'pathItems'] as const
const COMPONENT_NAME = /^[A-Za-z0-9._-]{1,128}$/
const LOCAL_REF = /^#\/components\/(schemas|responses|parameters|examples|requestBodies|headers|pathItems)\/([A-Za-z0-9._-]{1,128})((?:\/[A-Za-z0-9._~%-]+)*)$/
const METHODS = new Set(['get', 'put', 'post', 'delete', 'options', 'head', 'patch'])
/** Links and callbacks point elsewhere; security and servers name what only the host may say. */
const DROPPED_KEYS = new Set(['servers', 'security', 'callbacks', 'links', '$schema', '$id', '$anchor', '$dynamicRef', '$dynamicAnchor', '$recursiveRef', 'externalDocs'])

/** Their keys are names that the author chose, not words of the format: a property may be called `links`. */
const NAME_MAPS = new Set(['properties', 'patternProperties', 'dependentSchemas', '$defs', 'definitions', 'responses', 'content', 'headers', 'encoding', 'examples', 'variables'])

interface Part {
  readonly paths: ReadonlyMap<string, Json>
  readonly components: ReadonlyMap<string, ReadonlyMap<string, Json>>
  readonly chars: number
}

class Unusable extends Error {}

const cache = new WeakMap<Endpoint, Part | string>()

export function mergeOpenApi(host: OpenApiDocument, endpoints: readonly Endpoint[]): OpenApiDocument {
  const paths: Record<string, unknown> = { ...host.paths }
  const components: Record<string, Record<string, unknown>> = Object.fromEntries(Object.entries(host.components).map(([kind, row]) => [kind, { ...row }]))
  const tags = [...host.tags]
  const omitted: { plugin: string; reason: string }[] = []
  let chars = 0
  for (const endpoint of endpoints) {
    if (endpoint.openapi === null || endpoint.openapi === undefined) continue
    const part = partOf(endpoint)
    if (typeof part === 'string' || chars + part.chars > TOTAL_CHARS_MAX) {
      omitted.push({ plugin: endpoint.plugin, reason: typeof part === 'string' ? part : 'all documents together are too large' })
      continue
    }
    chars += part.chars
    tags.push({ name: endpoint.plugin })
    for (const [path, item] of part.paths) paths[path] = item
    for (const [kind, row] of part.components) components[kind] = { ...components[kind], ...Object.fromEntries(row) }
  }
  return { ...host, paths, components, tags, 'x-cordon-omitted': omitted }
}

/** A run's document does not change, so it is judged once per run. */
function partOf(endpoint: Endpoint): Part | string {
  let part = cache.get(endpoint)
  if (part === undefined) {
    try {
      part = partOfDocument(endpoint.plugin, endpoint.openapi)
    } catch (error) {
      if (!(error instanceof Unusable)) throw error
      part = error.message
    }
    cache.set(endpoint, part)
  }
  return part
}

/**
 * @param document attacker-controlled
 * @throws Unusable (a reason in our own words) when it is no OpenAPI 3 document or over a limit
 */
function partOfDocument(plugin: PluginName, document: unknown): Part {
  if (!isRecord(document)) throw new Unusable('not an object')
  if (typeof document['openapi'] !== 'string' || !/^3\.\d/.test(document['openapi'])) throw new Unusable('not OpenAPI 3')
  const declared = isRecord(document['components']) ? document['components'] : {}
  const copy = new Copier(plugin, declared)
  const paths = new Map<string, Json>()
  for (const [path, item] of entries(document['paths'])) {
    if (paths.size >= PATHS_MAX) throw new Unusable(`more than ${PATHS_MAX} paths`)
    if (!isDocumentable(plugin, path) || !isRecord(item)) continue
    paths.set(`/x/${plugin}${path === '/' ? '' : path}`, pathItem(plugin, item, copy))
  }
  const components = new Map<string, Map<string, Json>>()
  for (const kind of COMPONENT_KINDS) {
    const row = new Map<string, Json>()
    for (const [name, value] of entries(declared[kind])) {
      if (!COMPONENT_NAME.test(name)) continue
      copy.text(name)
      row.set(`${plugin}.${name}`, copy.value(value, 3))
    }
    if (row.size > 0) components.set(kind, row)
  }
  return { paths, components, chars: copy.chars }
}

/** Only what a caller could reach: the same judge as for requests, with `{parameters}` as plain segments. */
function isDocumentable(plugin: PluginName, path: string): boolean {
  if (!path.startsWith('/') || path.length > 500) return false
  const target = parseTarget(`/api/x/${plugin}${path.replace(/\{[A-Za-z0-9_.-]+\}/g, 'p')}`)
  return target.kind === 'plugin' && !target.inner.reserved && !path.includes('?')
}

function pathItem(plugin: PluginName, item: Readonly<Record<string, unknown>>, copy: Copier): Json {
  const out: Record<string, Json> = {}
  for (const [key, value] of Object.entries(item)) {
    if (METHODS.has(key) && isRecord(value)) {
      const operation = copy.value(value, 3)
      if (!isRecord(operation)) continue
      const { operationId, ...rest } = operation
      out[key] = { ...rest, tags: [plugin], ...(typeof operationId === 'string' ? { operationId: `${plugin}.${operationId}` } : {}) }
    } else if (key === 'summary' || key === 'description' || key === 'parameters') out[key] = copy.value(value, 3)
  }
  return out
}

/** Copies plain JSON within limits and turns references into the plugin's own namespace. */
class Copier {
  chars = 0
  #values = 0
  readonly #plugin: PluginName
  readonly #declared: Readonly<Record<string, unknown>>

  constructor(plugin: PluginName, declared: Readonly<Record<string, unknown>>) {
    this.#plugin = plugin
    this.#declared = declared
  }

  value(from: unknown, depth: number): Json {
    if (++this.#values > VALUES_MAX) throw new Unusable(`more than ${VALUES_MAX} values`)
    if (depth > DEPTH_MAX) throw new Unusable(`nested deeper than ${DEPTH_MAX}`)
    if (from === null || typeof from === 'boolean' || typeof from === 'number') return from
    if (typeof from === 'string') return this.text(from)
    if (Array.isArray(from)) return from.map((item: unknown) => this.value(item, depth + 1))
    return isRecord(from) ? this.#record(from, depth) : null
  }

  text(from: string): string {
    const kept = from.length > TEXT_MAX ? `${from.slice(0, TEXT_MAX)}…` : from
    this.chars += kept.length
    if (this.chars > CHARS_MAX) throw new Unusable(`more than ${CHARS_MAX} characters`)
    return kept
  }

  #record(from: Readonly<Record<string, unknown>>, depth: number): Json {
    const ref = from['$ref']
    if (typeof ref === 'string') return this.#reference(ref)
    const out: Record<string, Json> = {}
    for (const [key, value] of Object.entries(from)) {
      if (key === '__proto__' || DROPPED_KEYS.has(key)) continue
      this.text(key)
      if (NAME_MAPS.has(key) && isRecord(value)) out[key] = this.#names(value, depth + 1)
      else if (key === 'discriminator' && isRecord(value)) out[key] = this.#discriminator(value, depth + 1)
      else out[key] = this.value(value, depth + 1)
    }
    return out
  }

  #names(from: Readonly<Record<string, unknown>>, depth: number): Json {
    const out: Record<string, Json> = {}
    for (const [name, value] of Object.entries(from)) {
      if (name === '__proto__' || (name === '$ref' && typeof value === 'string')) continue
      out[this.text(name)] = this.value(value, depth + 1)
    }
    return out
  }

  /** Its mapping holds references as plain strings (OpenAPI 3.1, "Discriminator Object"), or bare schema names. */
  #discriminator(from: Readonly<Record<string, unknown>>, depth: number): Json {
    const { mapping, ...rest } = from
    const out = this.value(rest, depth)
    if (!isRecord(mapping)) return out
    const own: Record<string, Json> = {}
    for (const [key, to] of Object.entries(mapping)) {
      const ref = typeof to === 'string' ? (this.#own(to) ?? this.#own(`#/components/schemas/${to}`)) : null
      if (key !== '__proto__' && ref !== null) own[this.text(key)] = this.text(ref)
    }
    return typeof out === 'object' && out !== null ? { ...out, mapping: own } : out
  }

  /** Into its own document only; anything else (files, addresses, the host's components) becomes `{}`, which allows anything. */
  #reference(ref: string): Json {
    const own = this.#own(ref)
    return own === null ? {} : { $ref: this.text(own) }
  }

  #own(ref: string): string | null {
    const [, kind = '', name = '', rest = ''] = LOCAL_REF.exec(ref) ?? []
    const row = this.#declared[kind]
    return isRecord(row) && Object.hasOwn(row, name) ? `#/components/${kind}/${this.#plugin}.${name}${rest}` : null
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function entries(value: unknown): [string, unknown][] {
  return isRecord(value) ? Object.entries(value) : []
}

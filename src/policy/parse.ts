import * as z from 'zod'
import { problemsOf } from './issues.ts'
import { lintEgress } from './lint-egress.ts'
import { HOST_NOT_YET, NOT_YET } from './not-yet.ts'
import { DEFAULT_OWN_PLACES, judgePath, type OwnPlaces } from './paths.ts'
import { invalid, NO_LINE, type Locate, type PolicyWarning } from './problem.ts'
import { hostConfigSchema, isLoopback, parseListen, type RawHostConfig } from './host-config-schema.ts'
import { policySchema, presetSchema, type RawPolicy, type RawPreset } from './schema.ts'
import { parseStrictYaml } from './strict-yaml.ts'

/** A file that its schema accepts, with the way back to its lines for what is found out later. */
export interface Parsed<Raw> {
  readonly file: string
  readonly raw: Raw
  readonly locate: Locate
  readonly warnings: readonly PolicyWarning[]
}

/**
 * @param text the file's whole text; anything, also hostile
 * @param file its name as it shall stand in messages; printable
 * @param own Cordon's own places on this host, which no grant may touch
 * @throws PolicyError POLICY_INVALID with every problem of the file
 */
export function parsePolicy(text: string, file: string, own: OwnPlaces = DEFAULT_OWN_PLACES): Parsed<RawPolicy> {
  const parsed = parse<RawPolicy>(text, file, schemasFor(own).policy, NOT_YET)
  return { ...parsed, warnings: warningsOf(parsed.raw, parsed.raw.executable, parsed, own) }
}

/**
 * Like parsePolicy, for what did not come from a file: the options of `cordon run`. A value is as good as its text.
 * @param source stands for the file in messages, which name no line
 * @throws PolicyError POLICY_INVALID with every problem
 */
export function checkPolicy(value: unknown, source: string, own: OwnPlaces = DEFAULT_OWN_PLACES): Parsed<RawPolicy> {
  const parsed = check<RawPolicy>({ value, locate: () => NO_LINE, problems: [] }, source, schemasFor(own).policy, NOT_YET)
  return { ...parsed, warnings: warningsOf(parsed.raw, null, parsed, own) }
}

/** Like parsePolicy, for a preset: a file that names no program. */
export function parsePreset(text: string, file: string, own: OwnPlaces = DEFAULT_OWN_PLACES): Parsed<RawPreset> {
  const parsed = parse<RawPreset>(text, file, schemasFor(own).preset, NOT_YET)
  return { ...parsed, warnings: warningsOf(parsed.raw, null, parsed, own) }
}

/** Like parsePolicy, for /etc/cordon/cordon.yaml. */
export function parseHostConfig(text: string, file: string): Parsed<RawHostConfig> {
  const parsed = parse<RawHostConfig>(text, file, hostConfigSchema, HOST_NOT_YET)
  const host = parsed.raw.listen === undefined ? undefined : parseListen(parsed.raw.listen)?.host
  if (host === undefined || isLoopback(host)) return parsed
  const message = `"listen" is on ${host}, which is not this machine alone: whoever reaches it can try to log in, and without TLS the way there can be read`
  return { ...parsed, warnings: [{ file, ...parsed.locate(['listen']), message }] }
}

/** Building a schema takes 1.5 ms, using one 20 µs, and a directory has many policies. */
const built = new WeakMap<OwnPlaces, { readonly policy: z.ZodType<RawPolicy>; readonly preset: z.ZodType<RawPreset> }>()

function schemasFor(own: OwnPlaces) {
  const schemas = built.get(own) ?? { policy: policySchema(own), preset: presetSchema(own) }
  built.set(own, schemas)
  return schemas
}

function parse<Raw>(text: string, file: string, schema: z.ZodType<Raw>, notYet: ReadonlyMap<string, string>): Parsed<Raw> {
  return check(parseStrictYaml(text, file), file, schema, notYet)
}

function check<Raw>({ value, locate, problems }: ReturnType<typeof parseStrictYaml>, file: string, schema: z.ZodType<Raw>, notYet: ReadonlyMap<string, string>): Parsed<Raw> {
  if (value === undefined) throw invalid(file, problems)
  const checked = schema.safeParse(value)
  const fields = (path: readonly PropertyKey[]): readonly string[] => fieldsOf(schema, path)
  const found = checked.success ? [] : problemsOf(checked.error.issues, { file, value, locate, fields, notYet })
  // An alias was already refused; that nothing stands in its place is no second mistake.
  const all = [...problems, ...found.filter((one) => !problems.some((two) => one.line === two.line && one.column === two.column))]
  if (!checked.success || all.length > 0) throw invalid(file, all)
  return { file, raw: checked.data, locate, warnings: [] }
}

/** The field names that the schema knows at a path; empty where it takes any. */
function fieldsOf(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at: unknown = schema
  for (const step of path) {
    at = unwrap(at)
    if (at instanceof z.ZodArray) at = at.element
    else if (at instanceof z.ZodObject && typeof step === 'string') at = (at.shape as Record<string, unknown>)[step]
    else return []
  }
  const object = unwrap(at)
  return object instanceof z.ZodObject ? Object.keys(object.shape) : []
}

function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodOptional ? schema.unwrap() : schema
}

function warningsOf(raw: RawPreset, executable: RawPolicy['executable'] | null, parsed: Parsed<unknown>, own: OwnPlaces): PolicyWarning[] {
  const found: PolicyWarning[] = []
  const warn = (path: readonly PropertyKey[], message: string): void => {
    found.push({ file: parsed.file, ...parsed.locate(path), message })
  }
  if (executable !== null) {
    const judged = judgePath('executable', executable.path, own)
    if (judged.verdict === 'warn') warn(['executable', 'path'], `"executable.path": ${judged.why}`)
    if (executable.sha256 === undefined) warn(['executable'], '"executable.sha256" is absent: whatever lies at the path runs, and its hash is recorded')
  }
  for (const [field, use] of [['runtime', 'runtime'], ['read', 'read'], ['sockets', 'socket']] as const) {
    for (const [index, grant] of (raw[field] ?? []).entries()) {
      const judged = judgePath(use, grant.path, own)
      if (judged.verdict === 'warn') warn([field, index, 'path'], `"${field}[${index}].path" ${JSON.stringify(grant.path)}: ${judged.why}`)
    }
  }
  for (const { path, message } of lintEgress(raw.egress)) warn(path, message)
  if (raw.api?.legacy === 'grant') warn(['api', 'legacy'], '"api.legacy" grants host permissions to a manifest that never asked for them')
  return found
}

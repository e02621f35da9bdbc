import type { z } from 'zod'
import { printable } from '../base/printable.ts'
import { ERRORS } from '../errors.ts'
import { problemAt, type Locate, type PolicyCode, type PolicyProblem } from './problem.ts'
import { nearest } from '../base/suggest.ts'

export interface IssueContext {
  readonly file: string
  /** The value that was checked, for "what was found". */
  readonly value: unknown
  readonly locate: Locate
  /** Known field names of an object, by the path of the object; for "did you mean". */
  readonly fields: (path: readonly PropertyKey[]) => readonly string[]
  readonly notYet: ReadonlyMap<string, string>
}

type Issue = z.core.$ZodIssue

/** Zod's issues in our words: what was found, where, what was expected. One unknown field is one problem. */
export function problemsOf(issues: readonly Issue[], context: IssueContext): PolicyProblem[] {
  return issues.flatMap((issue) => (issue.code === 'unrecognized_keys'
    ? issue.keys.map((key) => unknownField([...issue.path, key], key, context))
    : [problemOf(issue, context)]))
}

function unknownField(path: readonly PropertyKey[], key: string, context: IssueContext): PolicyProblem {
  const where = context.locate(path, 'key')
  const later = context.notYet.get(label(path))
  if (later !== undefined) return problemAt(context.file, where, 'POLICY_NOT_YET', `${quoted(label(path))} is not yet enforced by this version: ${later}`)
  const inside = path.length > 1 ? ` in "${label(path.slice(0, -1))}"` : ''
  const known = context.fields(path.slice(0, -1))
  const guess = nearest(key, known)
  const hint = guess !== null ? `Did you mean "${guess}"?` : known.length > 0 ? `Known here: ${known.join(', ')}.` : undefined
  return problemAt(context.file, where, 'POLICY_UNKNOWN_FIELD', `unknown field ${quoted(key)}${inside}`, hint)
}

function problemOf(issue: Issue, context: IssueContext): PolicyProblem {
  const found = valueAt(context.value, issue.path)
  const name = issue.path.length === 0 ? 'the file' : `"${label(issue.path)}"`
  const make = (code: PolicyCode, message: string, hint?: string): PolicyProblem => (
    problemAt(context.file, context.locate(issue.path), code, message, hint ?? ERRORS[code].hint)
  )
  switch (issue.code) {
    case 'invalid_type':
      if (found === undefined) return make('POLICY_MISSING_FIELD', `${name} is missing; expected ${kind(issue.expected)}`)
      return wrongType(kind(issue.expected))
    case 'invalid_union':
      return wrongType('text such as 256M or a whole number')
    case 'invalid_value': {
      const values = issue.values.map(String)
      const guess = typeof found === 'string' ? nearest(found, values) : null
      return make('POLICY_BAD_VALUE', `${name} is ${describe(found)}; expected one of ${values.join(', ')}`, guess === null ? undefined : `Did you mean "${guess}"?`)
    }
    case 'too_small':
      return make('POLICY_OUT_OF_BOUNDS', `${name} is ${describe(found)}; expected ${String(issue.minimum)} or more`)
    case 'too_big':
      return make('POLICY_OUT_OF_BOUNDS', `${name} is ${describe(found)}; expected ${String(issue.maximum)} or ${issue.origin === 'array' ? 'fewer entries' : 'less'}`)
    case 'invalid_format':
      return make('POLICY_BAD_VALUE', `${name} is ${describe(found)}; expected ${FORMAT_WORDS.get(String(issue.path.at(-1))) ?? `the form ${String(issue.format)}`}`)
    case 'invalid_key': {
      const [inner] = issue.issues
      return problemAt(context.file, context.locate(issue.path, 'key'), 'POLICY_BAD_VALUE', `${name} ${inner?.message ?? 'is no valid name'}`)
    }
    case 'custom': {
      const code = issue.params?.['code'] as PolicyCode | undefined
      const hint = issue.params?.['hint'] as string | undefined
      // A check says either what it expected, or a sentence of its own that begins with a verb.
      const refused = issue.message.startsWith('is refused') ? ` ${describe(found)}` : ''
      const sentence = /^(?:is|names) /.test(issue.message) ? `${name}${refused} ${issue.message}` : `${name} is ${describe(found)}; ${issue.message}`
      return make(code ?? 'POLICY_BAD_VALUE', sentence, hint)
    }
    case 'not_multiple_of':
    case 'invalid_element':
    case 'unrecognized_keys':
      return make('POLICY_BAD_VALUE', `${name} is ${describe(found)}, which is not accepted`)
    default:
      return issue satisfies never
  }

  function wrongType(expected: string): PolicyProblem {
    const unquoted = expected === 'text' && (typeof found === 'number' || typeof found === 'boolean')
    const hint = issue.path.at(-1) === 'CPUQuota' ? `Write it with a percent sign: ${printable(String(found), 20)}%` : `Quote it: "${printable(String(found), 64)}"`
    return make('POLICY_BAD_VALUE', `${name} is ${describe(found)}; expected ${expected}`, unquoted ? hint : undefined)
  }
}

/** Words for the fields that are checked by a regular expression. */
const FORMAT_WORDS: ReadonlyMap<string, string> = new Map([
  ['sha256', '64 lower-case hex digits'],
  ['extends', 'the name of a preset: a-z, 0-9 and `-`'],
])

/** `read[0].path`; hostile names are made printable. */
function label(path: readonly PropertyKey[]): string {
  return path.map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index === 0 ? '' : '.'}${printable(String(step), 64)}`)).join('')
}

function quoted(text: string): string {
  return `"${printable(text, 64)}"`
}

function kind(expected: string): string {
  const words: Readonly<Record<string, string>> = {
    string: 'text', number: 'a number', int: 'a whole number', array: 'a list', object: 'fields (NAME: VALUE)', record: 'fields (NAME: VALUE)', boolean: 'true or false', nonoptional: 'a value',
  }
  return words[expected] ?? expected
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return 'empty'
  if (typeof value === 'string') return quoted(value)
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object') return 'fields (NAME: VALUE)'
  return printable(String(value), 64)
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value
  for (const step of path) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, step)) return undefined
    found = (found as Record<PropertyKey, unknown>)[step]
  }
  return found
}

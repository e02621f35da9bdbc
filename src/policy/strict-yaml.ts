import { isAlias, isMap, isNode, isScalar, isSeq, Lexer, LineCounter, parseAllDocuments, Parser, visit, type Document, type YAMLMap } from 'yaml'
import { printable } from '../base/printable.ts'
import { MAX_PROBLEMS, problemAt, type Locate, type PolicyCode, type PolicyProblem } from './problem.ts'

/** A policy is a page of text; this is a hundred of them. */
export const MAX_FILE_BYTES = 256 * 1024
/** Nested tokens; our deepest field needs ten. The yaml package recurses, so this also guards the stack. */
export const MAX_DEPTH = 32

export interface StrictYaml {
  /** Plain JSON value; undefined when the text has no usable structure. */
  readonly value: unknown
  readonly locate: Locate
  readonly problems: readonly PolicyProblem[]
}

/**
 * YAML 1.2, core schema, and less: one document, string keys, each once, no anchor, alias, tag or directive. A reader then
 * sees what holds, and no parser could read it differently.
 * @param text possibly hostile; anything is accepted here and nothing is thrown
 */
export function parseStrictYaml(text: string, file: string): StrictYaml {
  const lines = new LineCounter()
  const at = (offset: number) => linePosition(lines, offset)
  const problems: PolicyProblem[] = []
  const report: Report = (offset, code, message) => {
    if (problems.length < MAX_PROBLEMS) problems.push(problemAt(file, at(offset), code, message))
  }
  const broken: StrictYaml = { value: undefined, locate: () => at(0), problems }

  countLines(text, lines)
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_FILE_BYTES) {
    report(0, 'POLICY_TOO_LARGE', `the file has ${bytes} bytes; at most ${MAX_FILE_BYTES} are read`)
    return broken
  }
  const odd = NOT_TEXT.exec(text)
  if (odd !== null) {
    report(odd.index, 'POLICY_SYNTAX', `the character ${printable(odd[0])} is no plain text; it could make the file look other than it is`)
    return broken
  }
  const deep = tooDeep(text)
  if (deep !== null) {
    report(deep, 'POLICY_TOO_LARGE', `nested more than ${MAX_DEPTH} deep`)
    return broken
  }

  const stream = parseAllDocuments(text, { version: '1.2', schema: 'core', merge: false, uniqueKeys: true, strict: true, prettyErrors: false, logLevel: 'silent' })
  const [first, second] = Array.isArray(stream) ? stream : []
  if (first === undefined || first.contents === null || (isScalar(first.contents) && first.contents.value === null && first.errors.length === 0)) {
    report(0, 'POLICY_SYNTAX', 'the file is empty; expected fields such as `plugin: NAME`')
    return broken
  }
  if (second !== undefined) report(second.range[0], 'POLICY_YAML_FEATURE', 'a second document begins here; a file holds exactly one')
  if (first.directives?.yaml.explicit === true || text.startsWith('%')) report(0, 'POLICY_YAML_FEATURE', 'a directive (%) is used')
  refuseFeatures(first, report)
  for (const error of first.errors) {
    if (error.code !== 'DUPLICATE_KEY') report(error.pos[0], 'POLICY_SYNTAX', yamlMessage(error.message))
  }
  // A file that YAML itself cannot read has no fields to speak of; a repeated key is our own complaint and leaves the rest readable.
  if (first.errors.some((error) => error.code !== 'DUPLICATE_KEY')) return broken
  if (!isMap(first.contents)) {
    report(start(first.contents), 'POLICY_SYNTAX', 'expected fields such as `plugin: NAME` at the top, not a list or a single value')
    return broken
  }
  return { value: plain(first.contents), locate: locator(first, at), problems }
}

/** What YAML 1.2 section 5.1 does not allow in a stream, and direction controls that show a reader another text (CVE-2021-42574). */
const NOT_TEXT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\u202a-\u202e\u2066-\u2069\ufffe\uffff]|\p{Surrogate}/u

function countLines(text: string, lines: LineCounter): void {
  lines.addNewLine(0)
  for (let index = text.indexOf('\n'); index !== -1; index = text.indexOf('\n', index + 1)) lines.addNewLine(index + 1)
}

function linePosition(lines: LineCounter, offset: number): { line: number; column: number } {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(1, line), column: Math.max(1, col) }
}

/** The token parser keeps its own stack and does not recurse, so it can measure what the recursive composer must not see. */
function tooDeep(text: string): number | null {
  const parser = new Parser()
  for (const lexeme of new Lexer().lex(text)) {
    for (const token of parser.next(lexeme)) void token
    if (parser.stack.length > MAX_DEPTH) return parser.offset
  }
  return null
}

type Report = (offset: number, code: PolicyCode, message: string) => void

function refuseFeatures(document: Document.Parsed, report: Report): void {
  // `Node` alone: beside it, visit() would give a mapping only to `Map`, and its anchor would pass.
  visit(document, {
    Node(_key, node) {
      if (isAlias(node)) {
        report(start(node), 'POLICY_YAML_FEATURE', `an alias (*${printable(node.source, 40)}) is used`)
        return
      }
      if (node.anchor !== undefined) report(start(node), 'POLICY_YAML_FEATURE', `an anchor (&${printable(node.anchor, 40)}) is used`)
      if (node.tag !== undefined) report(start(node), 'POLICY_YAML_FEATURE', `a tag (${printable(node.tag, 60)}) is used`)
      if (isMap(node)) refuseFieldNames(node, report)
    },
  })
}

function refuseFieldNames(map: YAMLMap, report: Report): void {
  const seen = new Set<string>()
  for (const { key } of map.items) {
    const name = isScalar(key) && typeof key.value === 'string' ? key.value : null
    const offset = isNode(key) ? start(key) : start(map)
    if (name === null) report(offset, 'POLICY_YAML_FEATURE', 'a field name is not plain text; quote it if a number is meant')
    // Schema libraries drop this one without a word; a field that silently means nothing is what we refuse everywhere.
    else if (name === '__proto__') report(offset, 'POLICY_UNKNOWN_FIELD', 'the name "__proto__" is not accepted anywhere')
    else if (seen.has(name)) report(offset, 'POLICY_YAML_FEATURE', `"${printable(name, 64)}" is written twice; which one would hold?`)
    else seen.add(name)
  }
}

function yamlMessage(message: string): string {
  return `the YAML cannot be read: ${printable(message, 300)}`
}

/** Our own conversion: the first of two equal keys holds, `__proto__` is a name like any other, aliases give nothing. */
function plain(node: unknown): unknown {
  if (isScalar(node)) return node.value
  if (isSeq(node)) return node.items.map(plain)
  if (!isMap(node)) return null
  const fields = new Map<string, unknown>()
  for (const pair of node.items) {
    const name = isScalar(pair.key) && typeof pair.key.value === 'string' ? pair.key.value : null
    if (name !== null && !fields.has(name)) fields.set(name, plain(pair.value))
  }
  return Object.fromEntries(fields)
}

/** The position of a field, or of the nearest thing around it that the file has. */
function locator(document: Document.Parsed, at: (offset: number) => { line: number; column: number }): Locate {
  return (path, part = 'value') => {
    let node: unknown = document.contents
    let key: unknown = node
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && item.key.value === step)
        if (pair === undefined) return at(start(node))
        key = pair.key
        node = pair.value ?? pair.key
      } else if (isSeq(node) && typeof step === 'number' && node.items[step] !== undefined) {
        key = node.items[step]
        node = key
      } else break
    }
    return at(start(part === 'key' ? key : node))
  }
}

function start(node: unknown): number {
  return isNode(node) ? (node.range?.[0] ?? 0) : 0
}

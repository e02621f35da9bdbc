import * as z from 'zod'
import { CATALOGUE, type CatalogueRow } from '../../src/audit/catalogue.ts'
import { REASONS } from '../../src/egress/reasons.ts'
import { dataSchema, presence } from '../../src/audit/data-schema.ts'

interface Node {
  readonly type?: string | readonly string[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Node[]
  readonly items?: Node
  readonly properties?: Readonly<Record<string, Node>>
  readonly required?: readonly string[]
  readonly description?: string
  readonly additionalProperties?: Node | boolean
}

/** Text of src/audit/RECORDS.md. */
export function recordsDocument(): string {
  const rows = [...CATALOGUE].sort(([a], [b]) => (a < b ? -1 : 1))
  return `# Types of records

Written from catalogue.ts and the tables of ../wire/{events,door}.ts by \`node test/audit/write-records.ts\`; a test keeps it current. The same as a schema of
one line: ../../policies/record.schema.json. What stands around \`data\`, and how a log is checked: FORMAT.md.

- **Kind**: \`intent\`, the act waits until the record is durable; \`outcome\`, it follows an act that waits for nothing.
- **From**: whose words they are. The gateway and the door only ask for a record; the launcher checks its form, stamps and writes it.
- **OCSF**: the class of schema.ocsf.io, version 1.9.0, that stands as \`class_uid\`.
- *hashed*: the value may be a secret, and \`hmac-sha256:…\` stands for it (FORMAT.md). Values of environment variables, header fields and bodies are in no record.
- A text that was too long ends in "…", and \`~cut\` stands in \`data\`.

| Type | OCSF | Kind | From | When |
|---|---|---|---|---|
${rows.map(([type, { ocsf, kind, source, says }]) => `| [\`${type}\`](#${type.replaceAll('.', '')}) | ${ocsf.uid} ${ocsf.name} | ${kind} | ${source} | ${says} |\n`).join('')}
${rows.map(([type, row]) => section(type, row)).join('\n')}
### Reasons of the door

\`code\` of \`egress.opened\`, \`egress.closed\`, \`egress.refused\` and \`dns.refused\`; a code never changes its meaning, and \`say\` puts names and numbers into its sentence.

| Code | What it says |
|---|---|
${Object.entries(REASONS).map(([code, says]) => `| \`${code}\` | ${says.replaceAll('|', '\\|')} |\n`).join('')}`
}

function section(type: string, row: CatalogueRow): string {
  const named = (['plugin', 'run', 'policyDigest'] as const).flatMap((member) => {
    const when = presence(row, member)
    const label = member === 'policyDigest' ? 'policy' : member
    return when === 'never' ? [] : [when === 'always' ? `\`${label}\`` : `\`${label}\` (where there is one)`]
  })
  const fields = fieldRows(z.toJSONSchema(dataSchema(row), { io: 'output' }) as Node, '', row.secret)
  const table = fields.length === 0 ? 'No fields of its own.\n' : `| Field | Type | What it says |\n|---|---|---|\n${fields.map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`).join('')}`
  return `### ${type}\n\n${row.says}${named.length === 0 ? '' : ` Names ${named.join(', ')}.`}\n\n${table}`
}

function fieldRows(node: Node, prefix: string, secret: ReadonlySet<string>): string[][] {
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) => {
    const inner = field.anyOf?.find((one) => one.type !== 'null') ?? field
    const nullable = field.anyOf?.some((one) => one.type === 'null') === true
    const type = [
      typeName(inner), ...(nullable ? ['null'] : []), ...(node.required?.includes(name) === true ? [] : ['absent']),
    ].join(', ') + (prefix === '' && secret.has(name) ? ', *hashed*' : '')
    const below = inner.items?.properties === undefined ? fieldRows(inner, `${prefix}${name}.`, secret) : fieldRows(inner.items, `${prefix}${name}[].`, secret)
    return [[`\`${prefix}${name}\``, type, field.description ?? inner.description ?? ''], ...below]
  })
}

function typeName(node: Node): string {
  if (node.const !== undefined) return `\`${String(node.const)}\``
  if (node.enum !== undefined) return node.enum.map((one) => `\`${String(one)}\``).join(', ')
  if (node.type === 'array') return `list of ${node.items === undefined ? 'values' : typeName(node.items)}`
  if (node.type === 'object') return typeof node.additionalProperties === 'object' ? `${typeName(node.additionalProperties)} by name` : 'object'
  return node.type === 'string' ? 'text' : String(node.type)
}

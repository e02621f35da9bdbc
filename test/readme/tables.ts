import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import * as z from 'zod'
import { COMMANDS } from '../../src/cli/commands.ts'
import { EXIT_TEXTS } from '../../src/cli/help.ts'
import { ERRORS } from '../../src/errors.ts'
import { hostConfigSchema } from '../../src/policy/host-config-schema.ts'
import { jsonSchemaText } from '../../src/policy/json-schema.ts'

const ROOT = join(import.meta.dirname, '../..')

/** The tables of README.md that follow from the code, by the name of their place there: `<!-- NAME -->` to `<!-- /NAME -->`. */
export const TABLES: Readonly<Record<string, () => string>> = {
  commands: () => table(['Command', 'What it does'], COMMANDS.map(({ name, usage, summary }) => [code(`cordon ${name} ${usage}`.trim()), summary])),
  policy: () => table(['Field', 'What it means'], fields(JSON.parse(jsonSchemaText('policy')) as Node, '')),
  host: () => table(['Field', 'What it means'], fields(z.toJSONSchema(hostConfigSchema, { io: 'input', unrepresentable: 'any' }) as Node, '')),
  presets: () => table(['Preset', 'For', 'Memory', 'CPU', 'Tasks', 'Files', 'Host permissions', 'Restart'], presets()),
  errors: () => table(['Code', 'Exit', 'HTTP', 'What to do'], Object.entries(ERRORS).map(([name, { exit, http, hint }]) => [code(name), String(exit), String(http), hint])),
  exits: () => table(['Exit', 'Meaning'], Object.entries(EXIT_TEXTS).map(([status, text]) => [status, text])),
}

/** README with all of these tables as they follow from the code now. @throws Error when a place is missing */
export function withTables(readme: string): string {
  return Object.entries(TABLES).reduce((text, [name, make]) => {
    const [open, close] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`]
    const [from, to] = [text.indexOf(open), text.indexOf(close)]
    if (from < 0 || to < from) throw new Error(`README.md has no place for the table "${name}"`)
    return `${text.slice(0, from + open.length)}${make()}${text.slice(to)}`
  }, readme)
}

interface Node {
  readonly description?: string
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
  readonly enum?: readonly string[]
  readonly required?: readonly string[]
  readonly anyOf?: readonly Node[]
}

function fields(node: Node, prefix: string): string[][] {
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) => {
    const path = `${prefix}${name}`
    const words = field.enum ?? field.items?.enum
    const must = node.required?.includes(name) === true ? ' **Required.**' : ''
    return [
      [code(path), `${field.description ?? ''}${must}${words === undefined ? '' : ` One of: ${words.map(code).join(', ')}.`}`],
      ...fields(field, `${path}.`),
      ...fields(field.items ?? {}, `${path}[].`),
    ]
  })
}

interface Preset {
  readonly limits: Readonly<Record<string, string | number>>
  readonly api?: { readonly grants?: readonly string[] }
  readonly restart: Readonly<Record<string, string>>
}

function presets(): string[][] {
  return readdirSync(join(ROOT, 'policies')).filter((file) => file.endsWith('.yaml')).sort().map((file) => {
    const text = readFileSync(join(ROOT, 'policies', file), 'utf8')
    const { limits, api, restart } = parse(text) as Preset
    return [
      code(file.replace('.yaml', '')), /^# For: (.*)$/m.exec(text)?.[1] ?? '', ...['MemoryMax', 'CPUQuota', 'TasksMax', 'LimitNOFILE'].map((name) => String(limits[name])),
      api?.grants?.map(code).join(' ') ?? 'none', `${restart['on']}, ${restart['backoff']}, ${restart['start_limit']}`,
    ]
  })
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('')
}

function code(text: string): string {
  return `\`${text}\``
}

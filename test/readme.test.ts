import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { COMMANDS } from '../src/cli/commands.ts'
import { commandHelp, exitCodes, findCommand, overview } from '../src/cli/help.ts'
import { ERRORS } from '../src/errors.ts'
import { NOT_YET } from '../src/policy/not-yet.ts'
import { TABLES, withTables } from './readme/tables.ts'

const ROOT = join(import.meta.dirname, '..')
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
const LAUNCHER_README = readFileSync(join(ROOT, 'src/launcher/README.md'), 'utf8')

/** The part from one heading to the next of its level. */
function section(title: string): string {
  const [, text = ''] = README.split(`\n## ${title}\n`)
  return text.split('\n## ')[0] ?? ''
}

describe('README.md', () => {
  // After a change of errors, fields, presets or commands: node test/readme/write.ts
  test.each(Object.keys(TABLES))('its table of %s says what the code says', (name) => {
    const place = (text: string): string => text.split(`<!-- ${name} -->\n`)[1]?.split(`<!-- /${name} -->`)[0] ?? ''
    expect(place(README)).toBe(place(withTables(README)))
    expect(place(README).split('\n').length).toBeGreaterThan(5)
  })

  test('names no error code that the catalogue does not have', () => {
    const areas = new Set(Object.keys(ERRORS).map((code) => code.split('_')[0]))
    const named = [...`${README}${LAUNCHER_README}`.matchAll(/`([A-Z]+_[A-Z_]+)`/g)].map((match) => match[1] ?? '').filter((code) => areas.has(code.split('_')[0]))
    expect(named.filter((code) => !Object.hasOwn(ERRORS, code))).toEqual([])
  })

  test('names no command and no option that does not exist', () => {
    const used = [...`${README}\n${LAUNCHER_README}`.matchAll(/(?:^|[ `(/])cordon (?!-)([a-z]+(?: [a-z]+)?)((?: -[-a-z]+)*)/gm)].map(([, words = '']) => words.split(' '))
    expect(used.length).toBeGreaterThan(40)
    const unknown = used.filter(([first = '']) => first !== 'help' && !COMMANDS.some(({ name }) => name.split(' ')[0] === first))
    // Words of prose after the name of the program are not commands.
    expect(unknown.map((words) => words[0])).toEqual([])
    for (const [first = '', second = ''] of used) if (first === 'policy' || first === 'audit') expect(() => findCommand([first, second], COMMANDS)).not.toThrow()
  })

  test('says why of each dependency, and of nothing else', () => {
    const { dependencies, devDependencies, optionalDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<string, Record<string, string>>
    const wanted = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies }).sort()
    const found = [...section('Dependencies').matchAll(/^\| ((?:`[^`]+`(?:, )?)+) \|/gm)].flatMap((row) => [...(row[1] ?? '').matchAll(/`([^`]+)`/g)].map((name) => name[1] ?? '')).sort()
    expect(found).toEqual(wanted)
  })

  test('admits each field of the design that is refused today', () => {
    for (const field of NOT_YET.keys()) expect(section('Limitations'), field).toContain(`\`${field}\``)
  })

  test('links only to files that exist', () => {
    const links = [...README.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1] ?? '')
    expect(links.length).toBeGreaterThan(2)
    expect(links.filter((link) => !existsSync(join(ROOT, link)))).toEqual([])
  })

  test('has its sections in the order in which a newcomer needs them', () => {
    const titles = [...README.matchAll(/^## (.*)$/gm)].map((match) => match[1])
    expect(titles).toEqual([
      'What it protects against', 'Five-minute start', 'What it needs', 'Processes', 'The command line', 'Policies', 'The walls', 'The door', 'When something is wrong', 'Plugins: the handshake',
      'Origins and access', 'The audit log', 'Errors', 'Dependencies', 'Limitations', 'Reporting a vulnerability', 'Release notes',
    ])
  })
})

describe('help', () => {
  test.each(COMMANDS.map((command) => [command.name, command] as const))('of %s has an example that is that command, and exit codes', (name, command) => {
    const lines = commandHelp(command)
    expect(lines[lines.indexOf('example:') + 1]).toMatch(new RegExp(`^ {2}cordon ${name}(?: |$)`))
    expect(command.exits.length).toBeGreaterThan(0)
    expect(lines.filter((line) => line.length > 80)).toEqual([])
  })

  test('leads to the exit codes', () => {
    expect(overview(COMMANDS).join('\n')).toContain('help exit-codes')
    expect(exitCodes().join('\n')).toContain('SELFTEST_INCOMPLETE')
  })
})

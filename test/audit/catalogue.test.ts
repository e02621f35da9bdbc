import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CATALOGUE } from '../../src/audit/catalogue.ts'
import { prepareEntry } from '../../src/audit/entry.ts'
import { recordSchemaText } from '../../src/audit/json-schema.ts'
import type { AuditEvent } from '../../src/audit/record.ts'
import { chained } from './chained.ts'
import { recordProblems } from './check-record.ts'
import { loose } from './loose.ts'
import { recordsDocument } from './records-doc.ts'
import { undescribed } from '../policy/undescribed.ts'

const ROOT = join(import.meta.dirname, '../..')
const SALT = Buffer.alloc(32, 7)

/** The record of an event, as a reader of the log gets it. */
function written(event: AuditEvent, salt: Uint8Array = SALT): { readonly type: string; readonly data: Readonly<Record<string, unknown>> } {
  const prepared = prepareEntry(event, 'launcher', { wallMs: 0, monoMs: 0, boot: 'b' }, salt)
  return JSON.parse(chained(prepared, 0, '0'.repeat(64)).bytes.toString()) as ReturnType<typeof written>
}

describe('the catalogue of records', () => {
  // After a change of it: node test/audit/write-records.ts
  test('src/audit/RECORDS.md and policies/record.schema.json say what it says today', () => {
    expect(readFileSync(join(ROOT, 'src/audit/RECORDS.md'), 'utf8')).toBe(recordsDocument())
    expect(readFileSync(join(ROOT, 'policies/record.schema.json'), 'utf8')).toBe(recordSchemaText())
  })

  test('describes every field of every type, and takes no unknown ones', () => {
    const { $defs } = JSON.parse(recordSchemaText()) as { $defs: Record<string, unknown> }
    const bare = Object.entries($defs).flatMap(([type, schema]) => (type === '~cut' ? [] : undescribed(schema, type)))
    expect(Object.keys($defs).length).toBe(CATALOGUE.size + 1)
    expect(bare).toEqual([])
  })

  test('marks as possibly secret only what a type has', () => {
    expect([...CATALOGUE].flatMap(([type, { fields, secret }]) => [...secret].filter((name) => !(name in fields.shape)).map((name) => `${type}.${name}`))).toEqual([])
  })

  test('the check that the kernel tests make of their logs finds a wrong, a missing and an unknown field, and a cut record is none', () => {
    const good: AuditEvent = { type: 'daemon.cleaned', cgroups: 1, places: 2 }
    expect(recordProblems(written(good))).toEqual([])
    expect(recordProblems(written(loose({ ...good, cgroups: 'one' })))).toEqual([expect.stringContaining('data.cgroups')])
    expect(recordProblems(written(loose({ type: 'daemon.cleaned', cgroups: 1 })))).toEqual([expect.stringContaining('data.places')])
    expect(recordProblems(written(loose({ ...good, more: 1 })))).toEqual([expect.stringContaining('more')])
    expect(recordProblems(written(loose({ ...good, plugin: 'image' })))).toEqual([expect.stringContaining('plugin')])
    expect(recordProblems(written(loose({ ...good, plugin: undefined, more: 'x'.repeat(5000) })))).toEqual([])
  })
})

describe('a value that may be secret', () => {
  const run = (args: readonly unknown[]): AuditEvent => loose({ type: 'run.started', run: 'r', policyDigest: 'd', plan_digest: 'p', who: 'root', uid: 1, program: '/usr/bin/curl', arguments: args })

  test('stands in the log as a keyed hash, each for itself; the name of the program stays readable', () => {
    const { data } = written(run(['-u', 'admin:hunter2', '-u']))
    expect(data['program']).toBe('/usr/bin/curl')
    const [first, second, third] = data['arguments'] as string[]
    expect(second).toMatch(/^hmac-sha256:[0-9a-f]{64}$/)
    expect(first).toBe(third)
    expect(first).not.toBe(second)
    expect(JSON.stringify(data)).not.toContain('hunter2')
    expect(recordProblems(written(run(['-u'])))).toEqual([])
  })

  test('is hashed as FORMAT.md says, so that another program can compare it', () => {
    // printf %s 'admin:hunter2' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
    expect((written(run(['admin:hunter2'])).data['arguments'] as string[])[0]).toBe('hmac-sha256:cb38dab27576de17f86145e622a34cd0cdaccf275259ccf174d7c5a0441a4212')
  })

  test('cannot be compared without the salt of this log', () => {
    expect(written(run(['hunter2'])).data).not.toEqual(written(run(['hunter2']), Buffer.alloc(32, 8)).data)
  })

  test.each([[1234], [true], [{ pin: 1234 }], [['a', [5]]]])('is hashed also where it is no text: %j', (value) => {
    const { data } = written(run([value]))
    expect(JSON.stringify(data['arguments'])).not.toMatch(/1234|true|"a"|5\]/)
    expect(JSON.stringify(data['arguments'])).toContain('hmac-sha256:')
  })
})

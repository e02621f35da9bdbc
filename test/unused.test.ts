import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect, test } from 'vitest'
import { CATALOGUE } from '../src/audit/catalogue.ts'
import { ERRORS } from '../src/errors.ts'

const ROOT = join(import.meta.dirname, '..')
const TEXTS = new Map(readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
  .map((name) => [`src/${name}`, readFileSync(join(ROOT, 'src', name), 'utf8').replace(/\/\*[^]*?\*\/|(?<!:)\/\/.*/g, '')] as const))

/** No program runs these: they make files that are published, and tests compare those. */
const MAKES_FILES = ['src/audit/json-schema.ts', 'src/policy/json-schema.ts']

function saysOutside(word: string, out: RegExp): boolean {
  return [...TEXTS].some(([file, text]) => !out.test(file) && text.includes(`'${word}'`))
}

test('what a source exports, a source uses: tests alone keep nothing alive', () => {
  const unused = [...TEXTS].filter(([file]) => !MAKES_FILES.includes(file)).flatMap(([file, text]) => [...text.matchAll(/^export (?:async )?(?:function\*?|class|const) (\w+)/gm)].map(([, name = '']) => name).filter((name) => {
    const word = new RegExp(`\\b${name}\\b`, 'g')
    const here = text.match(word)?.length ?? 0
    return here === 1 && ![...TEXTS].some(([other, theirs]) => other !== file && theirs.includes(`/${basename(file)}'`) && word.test(theirs))
  }).map((name) => `${file} ${name}`))
  expect(TEXTS.size).toBeGreaterThan(200)
  expect(unused).toEqual([])
})

test('each error of the catalogue can come', () => {
  expect(Object.keys(ERRORS).filter((code) => !saysOutside(code, /^src\/errors\.ts$/))).toEqual([])
})

test('each type of record is written by something, and not only described and told', () => {
  expect([...CATALOGUE.keys()].filter((type) => !saysOutside(type, /^src\/(?:audit\/catalogue|report\/|history\/|wire\/|cli\/audit-)/))).toEqual([])
})

test('each dependency is imported', () => {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { dependencies: Record<string, string> }
  expect(Object.keys(dependencies).filter((name) => ![...TEXTS.values()].some((text) => text.includes(`from '${name}'`)))).toEqual([])
})

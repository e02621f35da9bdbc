import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { jsonSchemaText } from '../../src/policy/json-schema.ts'
import { undescribed } from './undescribed.ts'

const POLICIES = join(import.meta.dirname, '../../policies')

// After a change of schema.ts: node test/policy/write-json-schema.ts
test.each(['policy', 'preset'] as const)('policies/%s.schema.json is what the schema says today', (which) => {
  expect(readFileSync(join(POLICIES, `${which}.schema.json`), 'utf8')).toBe(jsonSchemaText(which))
})

test('every field has a description, and no object takes unknown fields', () => {
  expect(undescribed(JSON.parse(jsonSchemaText('policy')))).toEqual([])
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { jsonSchemaText } from '../../src/policy/json-schema.ts'

const POLICIES = join(import.meta.dirname, '../../policies')

// After a change of schema.ts: node test/policy/write-json-schema.ts
test.each(['policy', 'preset'] as const)('policies/%s.schema.json is what the schema says today', (which) => {
  expect(readFileSync(join(POLICIES, `${which}.schema.json`), 'utf8')).toBe(jsonSchemaText(which))
})

test('every field has a description, and no object takes unknown fields', () => {
  const bare: string[] = []
  const walk = (node: unknown, path: string): void => {
    if (typeof node !== 'object' || node === null) return
    if ('properties' in node && typeof node.properties === 'object' && node.properties !== null) {
      if (!('additionalProperties' in node) || node.additionalProperties !== false) bare.push(`${path} is open`)
      for (const [name, field] of Object.entries(node.properties)) {
        if (typeof field !== 'object' || field === null || !('description' in field)) bare.push(`${path}.${name}`)
        walk(field, `${path}.${name}`)
      }
    }
    if ('items' in node) walk(node.items, `${path}[]`)
  }
  walk(JSON.parse(jsonSchemaText('policy')), '')
  expect(bare).toEqual([])
})

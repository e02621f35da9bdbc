/** Writes policies/*.schema.json anew after a change of src/policy/schema.ts: `node test/policy/write-json-schema.ts`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { jsonSchemaText } from '../../src/policy/json-schema.ts'

for (const which of ['policy', 'preset'] as const) {
  writeFileSync(join(import.meta.dirname, `../../policies/${which}.schema.json`), jsonSchemaText(which))
}

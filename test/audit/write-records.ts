/** Writes src/audit/RECORDS.md and policies/record.schema.json anew after a change of the catalogue: `node test/audit/write-records.ts`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { recordSchemaText } from '../../src/audit/json-schema.ts'
import { recordsDocument } from './records-doc.ts'

const ROOT = join(import.meta.dirname, '../..')
writeFileSync(join(ROOT, 'src/audit/RECORDS.md'), recordsDocument())
writeFileSync(join(ROOT, 'policies/record.schema.json'), recordSchemaText())

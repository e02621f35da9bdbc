/** Writes the tables of README.md anew after a change of the code that they follow from: `node test/readme/write.ts`. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { withTables } from './tables.ts'

const file = join(import.meta.dirname, '../../README.md')
writeFileSync(file, withTables(readFileSync(file, 'utf8')))

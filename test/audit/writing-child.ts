/** Writes records until it is killed; prints the seq of each that was acknowledged. argv: directory. */
import { writeSync } from 'node:fs'
import { openAuditLog } from '../../src/audit/log.ts'
import { loose } from './loose.ts'

const log = await openAuditLog({ dir: process.argv[2] ?? '', owner: process.getuid?.() ?? 0 })
for (let caller = 0; caller < 20; caller++) void write(caller)

async function write(caller: number): Promise<never> {
  for (let n = 0; ; n++) {
    const { seq } = await log.append(loose({ type: 'admin.act', caller, n, text: 'x'.repeat((n * 37) % 3000) }), 'operator')
    writeSync(1, `${seq}\n`)
  }
}

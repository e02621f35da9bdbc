/** Runs in a mount namespace of its own, on a tiny tmpfs. argv: an empty directory. Prints one JSON object of what happened. */
import { execFileSync } from 'node:child_process'
import { rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openAuditLog } from '../../src/audit/log.ts'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { CordonError } from '../../src/errors.ts'
import { loose } from '../audit/loose.ts'

const mountPoint = process.argv[2] ?? ''
const mount = (...args: string[]): unknown => execFileSync('/usr/bin/mount', args)
mount('-t', 'tmpfs', '-o', 'size=160k,mode=0700', 'tmpfs', mountPoint)
const dir = join(mountPoint, 'audit')
const log = await openAuditLog({ dir })
const path = join(dir, 'records/0000000000000000.jsonl')

async function attempt(): Promise<string> {
  try {
    return `seq ${(await log.append(loose({ type: 'admin.act', text: 'x'.repeat(700) }), 'operator')).seq}`
  } catch (error) {
    return error instanceof CordonError ? `${error.code} ${/\bE[A-Z]+\b/.exec(error.message)?.[0]}` : String(error)
  }
}

const report: Record<string, unknown> = { control: await attempt() }
const ballast = join(mountPoint, 'ballast')
writeFileSync(ballast, Buffer.alloc(16 * 1024))
let filled = 0
let answer = await attempt()
while (answer.startsWith('seq') && filled < 1000) {
  filled += 1
  answer = await attempt()
}
report['filled'] = filled
report['full'] = [answer, await attempt(), log.state().state]
report['cutBack'] = statSync(path).size === log.state().bytes
report['fullVerdict'] = (await verifyLog(dir)).verdict
log.note(loose({ type: 'plugin.exited', plugin: 'image' }), 'launcher')
rmSync(ballast)
report['afterSpace'] = (await attempt()).slice(0, 3)
report['back'] = await verifyLog(dir)

// A remount is refused while someone has a file open for writing. A lost log has none: it comes back to a read-only disk.
writeFileSync(ballast, Buffer.alloc(4 * 1024))
while (!(await attempt()).startsWith('AUDIT'));
mount('-o', 'remount,ro', mountPoint)
report['readOnly'] = [await attempt(), await attempt()]
mount('-o', 'remount,rw', mountPoint)
rmSync(ballast)
report['writable'] = (await attempt()).slice(0, 3)
await log.close()
report['end'] = await verifyLog(dir)
console.log(JSON.stringify(report))

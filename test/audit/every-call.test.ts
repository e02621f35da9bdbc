import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openAuditLog } from '../../src/audit/log.ts'
import { dyingFs, type Death } from './dying-fs.ts'
import { examine } from './examine.ts'
import { loose } from './loose.ts'

/** No disk has to be waited for: what a power cut takes is told apart by dyingFs. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
const owner = process.getuid?.() ?? 0

/** The whole life of a log: it is created, opened, written, sealed, written and closed. @returns the seq of what was acknowledged */
async function live(dir: string, fs: ReturnType<typeof dyingFs>): Promise<number[]> {
  const acknowledged: number[] = []
  const log = await openAuditLog({ dir, owner, fs })
  const write = async (n: number): Promise<void> => {
    for (const done of await Promise.allSettled(Array.from({ length: n }, (_, i) => log.append(loose({ type: 'admin.act', i }), 'operator')))) {
      if (done.status === 'fulfilled') acknowledged.push(done.value.seq)
    }
  }
  try {
    await write(2)
    await log.seal().catch(() => undefined)
    await write(260)
  } finally {
    await log.close()
  }
  return acknowledged
}

test.each<Death>(['before', 'half', 'power'])('killed at every single call (%s), the log keeps what it acknowledged and the next writer goes on with the right key', async (death) => {
  const place = mkdtempSync(join(MEMORY, 'cordon-audit-'))
  try {
    const whole = dyingFs(Infinity, death)
    await live(join(place, 'whole'), whole)
    expect(whole.calls).toBeGreaterThan(60)
    for (let at = 1; at <= whole.calls; at++) {
      const dir = join(place, String(at))
      const fs = dyingFs(at, death)
      const acknowledged = await live(dir, fs).catch(() => [])
      expect(fs.dead).toBe(true)
      const after = dyingFs(Infinity, death, fs.marked)
      const next = await openAuditLog({ dir, owner, fs: after })
      const { seq } = await next.append(loose({ type: 'admin.act', at }), 'operator')
      await next.close()
      const found = examine(dir)
      const where = `call ${at} of ${whole.calls}`
      expect([...after.marked], where).toEqual([]) // closed in order, nothing is left that cannot be removed
      expect(found.problems, where).toEqual([])
      expect(found.tornEnd, where).toBe(false)
      expect(acknowledged.filter((one) => one >= seq), where).toEqual([])
      expect(readdirSync(`${dir}-keys`).sort(), where).toEqual([`epoch-${found.seals.length}.key`, 'log.key', 'salt'])
    }
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}, 120_000)

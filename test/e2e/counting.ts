import { readFileSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { TestHost } from './host.ts'

/** Writes a number over itself each 20 ms, so that a full disk does not stop it. */
const COUNT = `(exec python3 -c "import os,time
f=os.open('/data/counter',os.O_RDWR|os.O_CREAT)
n=0
while 1:
  n+=1
  os.pwrite(f,b'%012d'%n,0)
  time.sleep(0.02)") >/dev/null 2>&1 &`

/** Plugins of `host` that do as told, each with a counter in its data directory. */
export function counters(host: TestHost) {
  const file = (name: string): string => `${host.stateDir}/data/${name}/counter`
  const told = (name: string, command: string) => host.http(`/api/x/${name}/do`, { method: 'POST', body: command })
  const counted = (name: string): number => Number(readFileSync(file(name), 'utf8'))
  return {
    told,
    counted,
    /** Starts one and sees it count. */
    async counts(name: string): Promise<void> {
      rmSync(file(name), { force: true })
      expect(await told(name, COUNT)).toMatchObject({ status: 200 })
      await expect.poll(() => { try { return counted(name) } catch { return 0 } }).toBeGreaterThan(3)
    },
    async standsStill(name: string): Promise<void> {
      const before = counted(name)
      await sleep(400)
      expect(counted(name)).toBe(before)
    },
  }
}

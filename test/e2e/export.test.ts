import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'
import { TestHost } from './host.ts'

describe.skipIf(!canRun())('copies of the audit records', () => {
  let host: TestHost
  let text = ''
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined).on('data', (chunk) => { text += chunk.toString() })
  })
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    host = new TestHost(17, { audit: { export: [{ kind: 'syslog', address: `127.0.0.1:${(server.address() as AddressInfo).port}`, tls: false }] } })
    await host.start()
  })
  afterAll(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await host.close()
  })

  test('are sent by a process without privileges, which goes with the daemon; the last words arrive too', async () => {
    await expect.poll(() => text, { interval: 100 }).toMatch(/<110>1 \S+ \S+ cordon - gateway\.started - @cee:\{"boot"/)
    const exporters = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && /^Uid:\t(\d+)\t\1\t/m.exec(status(pid))?.[1] === String(host.firstUid + 6))
    expect(exporters).toHaveLength(1)
    const [pid = ''] = exporters
    expect(status(pid)).toMatch(/^CapEff:\t0{16}$/m)
    expect(status(pid)).toMatch(/^CapBnd:\t0{16}$/m)
    expect(status(pid)).toMatch(/^NoNewPrivs:\t1$/m)
    expect(await host.stop()).toBe(0)
    await expect.poll(() => text).toContain('daemon.stopped')
    await expect.poll(() => status(pid)).toBe('')
    const seqs = [...text.matchAll(/"seq":(\d+),"time"/g)].map(([, seq]) => Number(seq))
    expect(seqs).toEqual(seqs.map((_, index) => (seqs[0] ?? 0) + index))
    await host.start()
    await expect.poll(() => text.match(/daemon\.started - @cee/g)?.length ?? 0).toBeGreaterThan(0)
    await host.kill9()
    await expect.poll(() => readdirSync('/proc').filter((one) => /^\d+$/.test(one) && status(one).includes(`Uid:\t${host.firstUid + 6}\t`))).toEqual([])
    await host.start() // takes away what the killed one left
  })
})

function status(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    return '' // it has ended
  }
}

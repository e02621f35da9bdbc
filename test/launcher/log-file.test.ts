import { chmodSync, existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openPluginLog, type LogLimits } from '../../src/launcher/log-file.ts'

let base: string
let dir: string
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'cordon-log-'))
  dir = join(base, 'indexnow')
})
afterEach(() => rmSync(base, { recursive: true, force: true }))

const SMALL: LogLimits = { fileBytes: 100, keep: 3, bytesPerSecond: 1000, burstBytes: 1000 }
const refused = expect.objectContaining({ code: 'LOG_REFUSED' })
const text = (name: string) => readFileSync(join(dir, name), 'utf8')

describe('a plugin log', () => {
  test('keeps bytes as they are, appends after a restart, and only root can read it', () => {
    const hostile = Buffer.from([0x1b, 0x5b, 0x32, 0x4a, 0xff, 0x00, 0x0a])
    const first = openPluginLog(dir, 'stderr')
    first.write(hostile)
    first.close()
    first.write(Buffer.from('after close'))
    const second = openPluginLog(dir, 'stderr')
    second.write(Buffer.from('more'))
    second.close()
    expect(readFileSync(join(dir, 'stderr.log'))).toEqual(Buffer.concat([hostile, Buffer.from('more')]))
    expect(statSync(join(dir, 'stderr.log')).mode & 0o777).toBe(0o600)
    expect(statSync(dir).mode & 0o777).toBe(0o700)
  })

  test('never holds more than its files and their size', () => {
    let now = 0
    const log = openPluginLog(dir, 'stdout', { limits: SMALL, nowMs: () => (now += 1000) })
    for (let n = 0; n < 20; n++) log.write(Buffer.from(`${String(n).padStart(2, '0')} ${'x'.repeat(46)}\n`))
    log.close()
    expect(readdirSync(dir).sort()).toEqual(['stdout.log', 'stdout.log.1', 'stdout.log.2'])
    expect(text('stdout.log')).toMatch(/^18 x+\n19 x+\n$/)
    expect(text('stdout.log.2')).toMatch(/^14 x+\n15 x+\n$/)
    expect(log.lostBytes()).toBe(0)
  })

  test('drops what is over the rate, says how much, and goes on later', () => {
    let now = 0
    const log = openPluginLog(dir, 'stderr', { limits: { ...SMALL, fileBytes: 100_000 }, nowMs: () => now })
    log.write(Buffer.alloc(900, 'a'))
    log.write(Buffer.alloc(200, 'b'))
    log.write(Buffer.alloc(150, 'c'))
    now = 500
    log.write(Buffer.from('later'))
    log.write(Buffer.alloc(5000, 'd'))
    log.close()
    expect(text('stderr.log')).toBe(`${'a'.repeat(900)}\n[cordon: 350 bytes dropped, over 1000 bytes per second]\nlater\n[cordon: 5000 bytes dropped, over 1000 bytes per second]\n`)
    expect(log.lostBytes()).toBe(5350)
  })

  test('remembers the last 4 KiB, also of what was dropped', () => {
    const log = openPluginLog(dir, 'stderr', { limits: { ...SMALL, burstBytes: 10 }, nowMs: () => 0 })
    log.write(Buffer.alloc(9000, 'x'))
    log.write(Buffer.from('panic: at the disco'))
    expect(log.tailBytes().length).toBe(4096)
    expect(log.tailBytes().toString()).toMatch(/^x+panic: at the disco$/)
    log.close()
  })

  test('outlives a full disk: counted, told once, and it goes on when there is room', () => {
    let full = true
    const told: unknown[] = []
    const log = openPluginLog(dir, 'stderr', {
      onTrouble: (error) => told.push(error),
      writeSync: (fd, bytes) => {
        if (full) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
        return writeSync(fd, bytes, 0, Math.min(3, bytes.length)) // short writes are completed
      },
    })
    log.write(Buffer.from('one'))
    log.write(Buffer.from('two'))
    full = false
    log.write(Buffer.from('and three'))
    log.close()
    expect(text('stderr.log')).toBe('and three')
    expect(log.lostBytes()).toBe(6)
    expect(told).toHaveLength(1)
  })

  test('is refused where a link or a foreign directory lies', () => {
    mkdirSync(join(base, 'real'), { mode: 0o700 })
    symlinkSync('real', dir)
    expect(() => openPluginLog(dir, 'stderr')).toThrow(refused)
    rmSync(dir)
    mkdirSync(dir, { mode: 0o700 })
    writeFileSync(join(base, 'target'), '', { mode: 0o600 })
    symlinkSync('../target', join(dir, 'stderr.log'))
    expect(() => openPluginLog(dir, 'stderr')).toThrow(refused)
    rmSync(join(dir, 'stderr.log'))
    linkSync(join(base, 'target'), join(dir, 'stderr.log'))
    expect(() => openPluginLog(dir, 'stderr')).toThrow(refused)
    rmSync(join(dir, 'stderr.log'))
    chmodSync(dir, 0o755)
    expect(() => openPluginLog(dir, 'stderr')).toThrow(refused)
    chmodSync(dir, 0o700)
    openPluginLog(dir, 'stderr').close()
    expect(existsSync(join(dir, 'stderr.log'))).toBe(true)
  })
})

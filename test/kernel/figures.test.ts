import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readHostFigures } from '../../src/launcher/figures.ts'

const uid = 1_880_000_002
let dir: string
let bundle: string
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'cordon-figures-')) // 0700: the child cannot look in, and need not
  bundle = join(dir, 'figures.cjs')
  await build({ entryPoints: ['src/launcher/figures-child.ts'], outfile: bundle, bundle: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'error' })
})
afterAll(() => rmSync(dir, { recursive: true }))

function script(source: string): string {
  const path = join(dir, 'fake.cjs')
  writeFileSync(path, source)
  chmodSync(path, 0o600)
  return path
}
const failed = (text: string) => expect.objectContaining({ code: 'FIGURES_FAILED', message: expect.stringContaining(text) })

describe('host figures', () => {
  test('come from a bundle and a Node binary that the child cannot reach by path', async () => {
    const figures = await readHostFigures({ uid, script: bundle, stateDir: '/var/lib' })
    expect(figures).toMatchObject({ cpuCount: cpus().length, memoryBytes: totalmem() })
    expect(figures.memoryAvailableBytes).toBeGreaterThan(0)
    expect(figures.memoryAvailableBytes).toBeLessThan(figures.memoryBytes)
    expect(figures.disk?.bytes).toBeGreaterThan(0)
    expect((await readHostFigures({ uid, script: bundle, stateDir: 'nowhere' })).disk).toBeNull() // so the argument arrives
  })

  test('are read without any privilege of root', async () => {
    const probe = script(`
      const status = require('fs').readFileSync('/proc/self/status', 'utf8')
      console.log(JSON.stringify({ ids: [process.getuid(), process.getgid(), process.getgroups()], env: process.env, caps: status.match(/Cap(Inh|Prm|Eff|Bnd|Amb):\\t0{16}\\n/g).length, nnp: /NoNewPrivs:\\t1/.test(status), fds: require('fs').readdirSync('/proc/self/fd').length }))`)
    const seen = await readHostFigures({ uid, script: probe, stateDir: '/' }).catch((error: unknown) => String(error))
    // it does not fit the schema, and the error names each field that was found
    for (const field of ['ids', 'env', 'caps', 'nnp']) expect(seen).toContain(field)
    const judge = script(`
      const status = require('fs').readFileSync('/proc/self/status', 'utf8')
      const right = process.getuid() === ${uid} && process.getgid() === ${uid} && process.getgroups().every((g) => g === ${uid}) && Object.keys(process.env).length === 0
        && status.match(/Cap(Inh|Prm|Eff|Bnd|Amb):\\t0{16}\\n/g).length === 5 && /NoNewPrivs:\\t1/.test(status)
      console.log(JSON.stringify({ load1: right ? 1 : -1, cpuPercent: 0, cpuCount: 1, memoryBytes: 0, memoryAvailableBytes: 0, swapBytes: 0, swapUsedBytes: 0, disk: null }))`)
    expect((await readHostFigures({ uid, script: judge, stateDir: '/' })).load1).toBe(1)
  })

  test.each([
    ['text', 'console.log("hello\\u001b[2J")', 'expected JSON'],
    ['a flood', 'process.stdout.write("x".repeat(200000)); setInterval(() => {}, 1000)', 'more than'],
    ['a failure', 'console.error("no df"); process.exit(3)', 'ended with 3: no df'],
    ['a number that is none', 'console.log(JSON.stringify({ load1: "1" }))', 'unexpected figures'],
  ])('that are %s are refused', async (_what, source, text) => {
    await expect(readHostFigures({ uid, script: script(source), stateDir: '/' })).rejects.toThrow(failed(text))
  })

  test('do not wait for a child, or for what it started, beyond the limit', async () => {
    const started = Date.now()
    const hangs = script('require("child_process").spawn("/bin/sleep", ["100"], { stdio: "inherit" }); setInterval(() => {}, 1000)')
    await expect(readHostFigures({ uid, script: hangs, stateDir: '/' }, undefined, 500)).rejects.toThrow(failed('longer than 500 ms'))
    const signal = AbortSignal.timeout(200)
    await expect(readHostFigures({ uid, script: hangs, stateDir: '/' }, signal)).rejects.toThrow(failed('cancelled'))
    expect(Date.now() - started).toBeLessThan(50_000)
  })
})

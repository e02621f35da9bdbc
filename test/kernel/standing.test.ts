import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RunId } from '../../src/base/ids.ts'
import { bundlePaths, makeDirs, removePlaces, type Bundle } from '../../src/launcher/bundle.ts'
import { standUp } from '../../src/launcher/standing.ts'

// In place of the runtime: says that it came, with what arguments and descriptors, and passes its stdin on.
const STAND_IN = '#!/bin/sh\necho "came $*" >&2\n[ -e /proc/$$/fd/3 ] && echo open >&2 || echo closed >&2\nexec cat\n'

let dir = ''
let bundle: Bundle
let host: Parameters<typeof standUp>[0]
const run = '00000000000000aa' as RunId
beforeEach(() => {
  dir = mkdtempSync('/var/lib/cordon-standing-')
  bundle = bundlePaths(dir, run)
  writeFileSync(`${dir}/runtime`, STAND_IN, { mode: 0o755 })
  makeDirs(bundle, null)
  host = { facts: { runtime: { kind: 'runc', path: `${dir}/runtime`, version: '0' } }, ociRoot: `${dir}/oci` }
})
afterEach(async () => {
  await removePlaces(bundle, null)
  rmSync(dir, { recursive: true })
})

const state = (pid: number): string => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''

test('it is a shell that waits, becomes the runtime at the word, and takes nothing of what the program will read', async () => {
  const standing = await standUp(host, bundle, run)
  const { child, stdio } = standing
  const pid = child.pid ?? 0
  stdio.stdin.write('for the program\n') // not the word, which comes another way
  await expect.poll(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()).toBe('sh')
  await expect.poll(() => state(pid)).toBe('S')
  expect(standing.waits()).toBe(true)
  const said: Buffer[] = []
  stdio.stderr.on('data', (bytes: Buffer) => said.push(bytes))
  standing.begin()
  expect(standing.waits()).toBe(false)
  const [bytes] = (await once(stdio.stdout, 'data')) as [Buffer]
  expect(bytes.toString()).toBe('for the program\n')
  await expect.poll(() => Buffer.concat(said).toString()).toMatch(new RegExp(`^came --root ${dir}/oci .* run --bundle ${bundle.dir} .*--preserve-fds 0 --keep ${run}\nclosed\n`)) // the word's descriptor
  await standing.dismiss() // too late to do anything
  expect(child.exitCode).toBeNull()
  stdio.stdin.end()
  await once(child, 'exit')
})

test('dismissed, it is gone without having become anything', async () => {
  const standing = await standUp(host, bundle, run)
  await standing.dismiss()
  expect(standing.child.signalCode).toBe('SIGKILL')
  expect(standing.waits()).toBe(false)
  await standing.dismiss()
})

test('it makes FIFOs that everybody may open, and another that stands up after it takes the same', async () => {
  const identity = async (): Promise<readonly string[]> => {
    const standing = await standUp(host, bundle, run)
    await standing.dismiss()
    return standing.stdio.identity
  }
  const first = await identity()
  for (const name of ['stdin', 'stdout', 'stderr']) {
    const stat = statSync(`${bundle.stdioDir}/${name}`)
    expect([name, stat.isFIFO(), stat.mode & 0o777]).toEqual([name, true, 0o666])
  }
  expect(statSync(bundle.dir).mode & 0o777).toBe(0o700)
  expect(await identity()).toEqual(first)
})

test('where its places cannot be made it says why, and does not wait', async () => {
  const failed = standUp(host, bundle, run, { socketDir: `${dir}/absent` })
  await expect(failed).rejects.toMatchObject({ code: 'LAUNCH_PROGRAM', message: expect.stringMatching(/could not be made.*absent/) as unknown })
})

test('it dies with the process that made it, and without the word it becomes nothing', async () => {
  const script = `
    import { standUp } from '${import.meta.dirname}/../../src/launcher/standing.ts'
    const standing = await standUp(${JSON.stringify(host)}, ${JSON.stringify(bundle)}, '${run}')
    console.log(standing.child.pid)
    await new Promise(() => {})`
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(line)
  expect(execFileSync('/bin/ls', ['/proc']).toString().split('\n')).toContain(String(pid))
  parent.kill('SIGKILL')
  await expect.poll(() => { try { return state(pid) } catch { return 'gone' } }).toMatch(/gone|Z/)
})

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { Processes, ProgramDigests } from '../../src/launcher/processes.ts'

/** A directory that looks like a cgroup with these processes. */
function cgroup(...pids: number[]): { readonly dir: string; hold(...now: number[]): void; processes: Processes } {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-processes-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  mkdirSync(`${dir}/leaf`)
  const hold = (...now: number[]): void => writeFileSync(`${dir}/leaf/cgroup.procs`, now.map((pid) => `${pid}\n`).join(''))
  hold(...pids)
  return { dir, hold, processes: new Processes(new Map([['unified', `${dir}/leaf`]]), new ProgramDigests()) }
}

async function start(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: 'ignore' })
  onTestFinished(() => void child.kill('SIGKILL'))
  const { pid } = child
  if (pid === undefined) throw new Error(`${program} did not start`)
  while (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(args[0] ?? '')) await sleep(5) // until it has become that program
  return pid
}

const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

test('names are counted, and a program is told once, with its digest', async () => {
  const { dir, hold, processes } = cgroup()
  copyFileSync('/usr/bin/sleep', `${dir}/own`)
  const own = await start(`${dir}/own`, ['600'])
  const pids = [await start('/usr/bin/sleep', ['601']), await start('/usr/bin/sleep', ['602'])]
  hold(...pids)
  const first = await processes.look()
  expect(first).toMatchObject({ names: [{ name: 'sleep', count: 2 }], more: 0, fresh: [{ sha256: sha256('/usr/bin/sleep') }] })
  expect(await processes.look()).toMatchObject({ names: [{ name: 'sleep', count: 2 }], fresh: [] })
  hold(...pids, own)
  expect(await processes.look()).toMatchObject({ names: [{ name: 'sleep', count: 2 }, { name: 'own', count: 1 }], fresh: [{ path: `${dir}/own`, sha256: sha256(`${dir}/own`), bytes: readFileSync(`${dir}/own`).length }] })
})

test('the file that runs is read, whatever lies under its name by now', async () => {
  const { dir, hold, processes } = cgroup()
  copyFileSync('/usr/bin/sleep', `${dir}/own`)
  const digest = sha256(`${dir}/own`)
  hold(await start(`${dir}/own`, ['600']))
  renameSync(`${dir}/own`, `${dir}/moved`)
  symlinkSync('/etc/shadow', `${dir}/own`)
  expect(await processes.look()).toMatchObject({ fresh: [{ path: `${dir}/moved`, sha256: digest }] })
})

test('a name is text of the plugin\'s: it is made printable', async () => {
  const { dir, hold, processes } = cgroup()
  copyFileSync('/usr/bin/sleep', `${dir}/a\u001b[2J`)
  hold(await start(`${dir}/a\u001b[2J`, ['600']))
  const { names, fresh } = await processes.look()
  expect(names).toEqual([{ name: 'a\\x1b[2J', count: 1 }])
  expect(fresh[0]?.path).toContain('a\\x1b[2J')
})

test('a number that is no process of the group any more counts for nothing', async () => {
  const { hold, processes } = cgroup(999_999_999, 0)
  expect(await processes.look()).toMatchObject({ names: [], fresh: [] })
  hold(process.pid)
  const look = processes.look()
  hold()
  expect(await look).toEqual({ names: [], more: 0, fresh: [] })
})

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'

// The check that ends the kernel layer must be able to fail: each kind of leftover is made, named, and removed.
const script = join(import.meta.dirname, '../leftovers.sh')
const undo: (() => void)[] = []
afterEach(() => {
  for (const step of undo.splice(0).reverse()) step()
})

function newTempDir(): string {
  const dir = mkdtempSync('/run/cordon-leftover-')
  undo.push(() => rmSync(dir, { recursive: true }))
  return dir
}

/** @returns how the check ended over what `make` left, and the lines in which it names that */
function leftBy(make: () => void): { status: number | null; named: string } {
  const list = join(newTempDir(), 'before')
  writeFileSync(list, execFileSync('bash', [script, 'list'], { encoding: 'utf8' }))
  make()
  const { status, stderr } = spawnSync('bash', [script, 'since', list, '3'], { encoding: 'utf8' })
  return { status, named: stderr }
}

test('nothing made is nothing left', () => {
  expect(leftBy(() => undefined)).toEqual({ status: 0, named: '' })
})

test('a mount, a network namespace, a process and a cgroup that stay are each named', () => {
  const dir = newTempDir()
  const mount = join(dir, 'mount')
  const net = join(dir, 'net')
  const tree = existsSync('/sys/fs/cgroup/cgroup.procs') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids'
  const group = `${tree}/cordon-leftover`
  mkdirSync(mount)
  writeFileSync(net, '')
  const { status, named } = leftBy(() => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'leftover', mount])
    undo.push(() => execFileSync('umount', [mount]))
    execFileSync('unshare', [`--net=${net}`, 'true'])
    undo.push(() => execFileSync('umount', [net]))
    const child = spawn('sleep', ['60'], { argv0: `${dir}/plugin`, stdio: 'ignore' })
    undo.push(() => child.kill('SIGKILL'))
    mkdirSync(group)
    undo.push(() => rmdirSync(group))
  })
  expect(named).toContain(`mount ${mount}\n`)
  expect(named).toContain(`mount ${net}\n`)
  expect(named).toMatch(new RegExp(`process \\d+ of root: ${dir}/plugin 60`))
  expect(named).toContain(`cgroup ${group}\n`)
  expect(status).toBe(1)
})

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { KernelLog, refusedCall } from '../../src/launcher/kernel-log.ts'
import { syscallNames } from '../../src/launcher/syscall-names.ts'
import { compileSeccomp } from '../../src/plan/seccomp.ts'

// As Debian 12's kernel wrote it, and a newer one for a killed call of another ABI.
const LINE = '5,1021,45330112,-;audit: type=1326 audit(1763642983.104:77): auid=4294967295 uid=1880000007 gid=1880000007 ses=4294967295 subj=unconfined pid=4711 comm="perl" exe="/usr/bin/perl" sig=0 arch=c000003e syscall=321 compat=0 ip=0x7f2b4c0de3a9 code=0x50000'
const KILLED = '5,654,3312975703,-;audit: type=1326 audit(1795169383.074:52): auid=4294967295 uid=1881700003 gid=1881700003 ses=4294967295 pid=12453 comm="selftest" exe="/usr/bin/perl" sig=31 arch=40000003 syscall=20 compat=1 ip=0x7f79951c3008 code=0x0'
const call = (line: string) => refusedCall(line, 'x86_64', syscallNames('x86_64'))

test('of a line of the kernel only the user and the call are taken', () => {
  expect(call(LINE)).toEqual({ uid: 1880000007, call: 'bpf' })
  expect(call(KILLED)).toEqual({ uid: 1881700003, call: '20 of architecture 40000003' })
  expect(call(LINE.replace('syscall=321', 'syscall=99999'))).toMatchObject({ call: '99999' })
  expect(call(LINE.replace('"perl"', '2861292075696420373D'))).toMatchObject({ uid: 1880000007 }) // a name with a blank, as the kernel writes it
})

test.each([
  ['a line that a program wrote into the log, which has another facility', LINE.replace(/^5,/, '13,')],
  ['another type', LINE.replace('type=1326', 'type=1300')],
  ['a name that ends its quotes', LINE.replace('"perl"', '"x" uid=0 "')],
  ['a name with a blank', LINE.replace('"perl"', '"a uid=0"')],
  ['a second user', LINE.replace('uid=1880000007', 'uid=1880000007 uid=0')],
  ['something before', LINE.replace(';audit', ';x audit')],
  ['something behind', `${LINE} more`],
  ['a fault of a process that calls itself like the line', '6,1022,45330113,-;audit: type=132[4711]: segfault at 0 ip 0 sp 0 error 4'],
  ['an empty line', ''],
])('%s is not counted', (_title, line) => {
  expect(call(line)).toBeNull()
})

test('no text of a plugin makes a line count for another user', () => {
  // What the kernel lets through unescaped: printable, no quote, no blank (audit_log_untrustedstring).
  const word = fc.string({ unit: fc.constantFrom(...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).filter((c) => c !== '"')), maxLength: 40 })
  fc.assert(fc.property(word, word, (comm, exe) => {
    expect(call(LINE.replace('"perl"', () => `"${comm}"`).replace('"/usr/bin/perl"', () => `"${exe}"`))).toEqual({ uid: 1880000007, call: 'bpf' })
  }), { seed: 4, numRuns: 500 })
})

test.each(['x86_64', 'aarch64'] as const)('the names of %s are those of the filter, each at one number', (architecture) => {
  const nameOf = syscallNames(architecture)
  const all = Array.from({ length: 500 }, (_, n) => nameOf(n)).filter((name) => !/^\d+$/.test(name))
  expect(new Set(all).size).toBe(all.length)
  expect(compileSeccomp(architecture, 'crun', 'plugin').syscalls.flatMap(({ names }) => names).filter((name) => !all.includes(name))).toEqual([])
  expect([nameOf(435), nameOf(425)]).toEqual(['clone3', 'io_uring_setup'])
  expect(architecture === 'x86_64' ? [nameOf(0), nameOf(101), nameOf(321)] : [nameOf(63), nameOf(117), nameOf(280)]).toEqual(['read', 'ptrace', 'bpf'])
})

/** A file in place of the device: one read gives all of it, so it holds one record. */
function device(record: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-kmsg-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  writeFileSync(`${dir}/kmsg`, record)
  return `${dir}/kmsg`
}
const facts = (kind: 'crun' | 'runc') => ({ architecture: 'x86_64' as const, runtime: { kind, path: '', version: '' } })

test('what was there before is not counted, what comes is, for its user alone, and once', () => {
  const path = device('')
  const log = new KernelLog(facts('crun'), path)
  const [mine, other] = [log.watch(1880000007), log.watch(1880000008)]
  writeFileSync(path, `${LINE}\n SUBSYSTEM=x\n`)
  expect(mine.take()).toEqual({ bpf: 1 })
  expect([mine.take(), other.take()]).toEqual([{}, {}])
  mine.end()
  log.close()
})

test('where the runtime does not ask for the lines, or the log cannot be read, that is said', () => {
  for (const log of [new KernelLog(facts('runc'), device(LINE)), new KernelLog(facts('crun'), '/nowhere/kmsg')]) {
    expect(log.recorded).toBe(false)
    expect(log.watch(1).take()).toBeNull()
    log.close()
  }
})

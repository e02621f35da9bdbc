import { expect, test } from 'vitest'
import { judge, lastWords, type Ending } from '../../src/launcher/outcome.ts'
import { exitText } from '../../src/launcher/run-exit.ts'

const known = { auth_secret: 'ab12'.repeat(16), TOKEN: 'tok-4711-xyz', SHORT: 'info', LONGER: 'tok-4711-xyz-more' }
const words = (text: string): string => lastWords(Buffer.from(text), known)

test('what a plugin says last is kept without the values that Cordon gave it', () => {
  expect(words(`a\nb\nconfig: ${known.TOKEN} ${known.LONGER}\n\nsecret ${known.auth_secret}!\nlevel info\n`)).toBe('config: [TOKEN] [LONGER] | secret [auth_secret]! | level info')
})

test('it is made printable, and is three lines at most', () => {
  expect(words('one\ntwo\nthree\nfour \u001b[2J')).toBe('two | three | four \\x1b[2J')
})

const ended = (status: number | null, more: Partial<Ending> = {}, oomKills = 0): Ending =>
  ({ exit: { status, text: exitText(status), oomKills }, verdict: null, ranMs: 5000, wasReady: true, interrupted: false, said: '', ...more })

test.each([
  ['it left by itself, and that is all', ended(0), { clean: true, permanent: false, ranMs: 5000, reason: 'exit 0' }],
  ['an end before it was ready is none of its own, and it ran for no time', ended(0, { wasReady: false }), { clean: false, ranMs: 0, reason: 'exit 0 before it was ready' }],
  ['a signal is told with the exit that looks the same', ended(137, { said: 'oh no' }), { clean: false, reason: 'exit 137 or SIGKILL; last on stderr: oh no' }],
  ['a refused system call', ended(159), { reason: 'seccomp: a refused system call (exit 159 or SIGSYS)' }],
  ['want of memory', ended(137, {}, 1), { clean: false, reason: 'oom-kill: it wanted more than MemoryMax (exit 137 or SIGKILL)' }],
  ['why it was ended outweighs how', ended(0, { verdict: { code: 'HANDSHAKE_TIMEOUT', message: 'no line' }, said: 'hm' }), { clean: false, permanent: false, reason: 'HANDSHAKE_TIMEOUT: no line; last on stderr: hm' }],
  ['but not want of memory, which explains it', ended(137, { verdict: { code: 'HANDSHAKE_TIMEOUT', message: 'no line' } }, 2), { reason: 'oom-kill: it wanted more than MemoryMax (exit 137 or SIGKILL)' }],
  ['walls that changed: another try would not help', ended(137, { verdict: { code: 'LAUNCH_ISOLATION', message: 'a route' } }), { clean: false, permanent: true }],
  ['the gateway went, which is not its failure', ended(null, { interrupted: true }), { interrupted: true, reason: 'the runtime was killed' }],
])('%s', (_title, ending, outcome) => {
  expect(judge(ending)).toMatchObject(outcome)
})

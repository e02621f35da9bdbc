import { expect, test } from 'vitest'
import { whoActs } from '../../src/cli/who.ts'

test.each<[Record<string, string>, string | Error, string]>([
  [{}, '4294967295\n', 'root'],
  [{}, '1000\n', 'root (loginuid 1000)'],
  [{ SUDO_USER: 'alice' }, '1000', 'root (loginuid 1000, SUDO_USER alice)'],
  [{ SUDO_USER: 'alice' }, '4294967295', 'root (SUDO_USER alice)'],
  [{ SUDO_USER: '' }, new Error('ENOENT'), 'root'],
  [{ SUDO_USER: 'a\u001b[2J\n' }, 'garbage', 'root (SUDO_USER a\\x1b[2J\\x0a)'],
])('%j with loginuid %j is recorded as %s', (env, loginUid, who) => {
  expect(whoActs(env, () => {
    if (loginUid instanceof Error) throw loginUid
    return loginUid
  })).toBe(who)
})

test('it is never longer than the record takes', () => {
  expect(whoActs({ SUDO_USER: '\u0000'.repeat(5000) }, () => '1000').length).toBeLessThanOrEqual(200)
})

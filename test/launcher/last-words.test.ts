import { expect, test } from 'vitest'
import { lastWords } from '../../src/launcher/outcome.ts'

const known = { auth_secret: 'ab12'.repeat(16), TOKEN: 'tok-4711-xyz', SHORT: 'info', LONGER: 'tok-4711-xyz-more' }
const words = (text: string): string => lastWords(Buffer.from(text), known)

test('what a plugin says last is kept without the values that Cordon gave it', () => {
  expect(words(`a\nb\nconfig: ${known.TOKEN} ${known.LONGER}\n\nsecret ${known.auth_secret}!\nlevel info\n`)).toBe('config: [TOKEN] [LONGER] | secret [auth_secret]! | level info')
})

test('it is made printable, and is three lines at most', () => {
  expect(words('one\ntwo\nthree\nfour \u001b[2J')).toBe('two | three | four \\x1b[2J')
})

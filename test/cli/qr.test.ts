import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { qrLines } from '../../src/cli/qr.ts'
import { decodeQr } from './qr-decode.ts'

const fingerprint = (seed: number): string => `SHA256:${createHash('sha256').update(String(seed)).digest('base64').slice(0, 43)}`

test('a fingerprint comes back from its QR code as it was, and the code fits a terminal', () => {
  for (let seed = 0; seed < 40; seed++) {
    const lines = qrLines(fingerprint(seed), false)
    expect(decodeQr(lines, 4)).toBe(fingerprint(seed))
    expect([lines.length, ...new Set(lines.map((line) => line.length))]).toEqual([19, 37])
  }
})

test('one wrong module is noticed, so the reading above can fail', () => {
  const lines = qrLines(fingerprint(0), false)
  const wrong = lines.map((line, row) => (row === 10 ? `${line.slice(0, 20)}${line[20] === '█' ? ' ' : '█'}${line.slice(21)}` : line))
  expect(() => decodeQr(wrong, 4)).toThrow('a module is wrong')
})

test('on a terminal with colours it is black on white, whatever the terminal is', () => {
  const [plain, coloured] = [qrLines(fingerprint(1), false), qrLines(fingerprint(1), true)]
  expect(coloured).toEqual(plain.map((line) => `\u001b[30;107m${line}\u001b[0m`))
})

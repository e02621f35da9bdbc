import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatBytes, formatDuration, parseBytes, parseDuration, parseDurationRange, parsePercent, parseStartLimit, UnitError } from '../../src/policy/units.ts'

test('sizes count in 1024, bandwidths in 1000, as systemd has it', () => {
  expect(parseBytes('256M', 1024)).toBe(268_435_456)
  expect(parseBytes('1G', 1024)).toBe(2 ** 30)
  expect(parseBytes('10M', 1000)).toBe(10_000_000)
  expect(parseBytes(4096, 1024)).toBe(4096)
})

test('durations, ranges, percent and start limits', () => {
  expect([parseDuration('500ms'), parseDuration('30s'), parseDuration('10m'), parseDuration('10min'), parseDuration('1h'), parseDuration('2d')])
    .toEqual([500, 30_000, 600_000, 600_000, 3_600_000, 172_800_000])
  expect(parseDurationRange('1s..60s')).toEqual({ minMs: 1000, maxMs: 60_000 })
  expect(parsePercent('25%')).toBe(25)
  expect(parseStartLimit('3 in 1h')).toEqual({ count: 3, windowMs: 3_600_000 })
})

test.each(['', ' 1M', '1M ', '1MB', '1m', '0x10', '1e3', '-1', '+1', '1.5G', '１M', '99999999999999999', 'infinity'])('%j is no size', (text) => {
  expect(() => parseBytes(text, 1024)).toThrow(UnitError)
})

test.each(['', '1', 's', '1 s', '1S', '1s..', '..1s', '1s...2s', '1s..2s..3s', '1h 30m'])('%j is no range', (text) => {
  expect(() => parseDurationRange(text)).toThrow(UnitError)
})

test('what is shown reads back as the same number', () => {
  fc.assert(fc.property(fc.nat(2 ** 40), fc.constantFrom(1024 as const, 1000 as const), (bytes, base) => parseBytes(formatBytes(bytes, base), base) === bytes), { seed: 1 })
  fc.assert(fc.property(fc.nat(7 * 86_400_000), (ms) => parseDuration(formatDuration(ms)) === ms), { seed: 1 })
})

import { expect, test } from 'vitest'
import type { HostName } from '../../src/base/host-name.ts'
import { MAX_HELLO_RAW_BYTES } from '../../src/egress/client-hello.ts'
import { Inspector } from '../../src/egress/inspect.ts'
import { hello, serverName } from './hello.ts'

const PERMIT = { private: false, hostInternal: false, tls: 'auto', ech: false } as const
const NAME = 'example.org' as HostName

test('a hello in single bytes is held as one piece, and passed unchanged with what follows it', () => {
  const bytes = hello({ extensions: [serverName(NAME)] })
  const inspector = new Inspector(PERMIT, NAME, 8443)
  for (const byte of bytes.subarray(0, -1)) expect(inspector.feed(Buffer.of(byte))).toEqual({ pass: [], refused: null })
  expect(inspector.pending).toBe(true)
  const { pass, refused } = inspector.feed(Buffer.concat([bytes.subarray(-1), Buffer.from('early data')]))
  expect([refused, pass.length, Buffer.concat(pass).equals(Buffer.concat([bytes, Buffer.from('early data')])), inspector.pending]).toEqual([null, 2, true, false])
})

test('hellos that never end, in single bytes, take little more than their size', () => {
  const endless = hello({ extensions: [serverName(NAME), [0xaaaa, Buffer.alloc(16_000)]] })
  const before = process.memoryUsage()
  const inspectors = Array.from({ length: 32 }, () => new Inspector(PERMIT, NAME, 8443))
  for (const inspector of inspectors) for (const byte of endless.subarray(0, -1)) inspector.feed(Buffer.of(byte))
  const after = process.memoryUsage()
  expect(inspectors.every((inspector) => inspector.pending)).toBe(true)
  // One by one each byte would cost about 150: 77 MiB.
  expect(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(32 * 4 * MAX_HELLO_RAW_BYTES + 40 * 2 ** 20)
})

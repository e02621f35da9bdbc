import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LineReader, MAX_LINE_BYTES } from '../../src/handshake/line-reader.ts'

const signal = new AbortController().signal

describe('LineReader', () => {
  it('gives the first two lines, however they are cut into chunks, and drops the rest', async () => {
    const text = Buffer.from('{"a":1}\n{"b":2}\r\nlog\nmore')
    for (const step of [1, 2, 3, 7, text.length]) {
      const reader = new LineReader()
      for (let at = 0; at < text.length; at += step) reader.push(text.subarray(at, at + step))
      expect((await reader.next('hello', 100, signal)).toString()).toBe('{"a":1}')
      expect((await reader.next('ready', 100, signal)).toString()).toBe('{"b":2}\r')
      reader.end()
      await expect(reader.next('third', 20, signal)).rejects.toMatchObject({ code: 'HANDSHAKE_EOF' })
    }
  })

  it('wakes a reader that waits when the line comes later', async () => {
    const reader = new LineReader()
    const line = reader.next('hello', 1000, signal)
    reader.push(Buffer.from('he'))
    await new Promise((resolve) => setTimeout(resolve, 5))
    reader.push(Buffer.from('llo\n'))
    expect((await line).toString()).toBe('hello')
  })

  it('accepts a line of exactly 2 MiB with its newline and refuses one byte more', async () => {
    const fits = new LineReader()
    fits.push(Buffer.alloc(MAX_LINE_BYTES - 1, 0x61))
    fits.push(Buffer.from('\n'))
    expect((await fits.next('hello', 100, signal)).length).toBe(MAX_LINE_BYTES - 1)

    const over = new LineReader()
    over.push(Buffer.alloc(MAX_LINE_BYTES, 0x61))
    over.push(Buffer.from('\n'))
    await expect(over.next('hello', 100, signal)).rejects.toMatchObject({ code: 'HANDSHAKE_TOO_LONG' })
  })

  it('fails an endless line as soon as it is too long, without waiting for its end', async () => {
    const reader = new LineReader()
    const line = expect(reader.next('hello', 60_000, signal)).rejects.toMatchObject({ code: 'HANDSHAKE_TOO_LONG' })
    for (let i = 0; i < 40; i += 1) reader.push(Buffer.alloc(64 * 1024, 0x61))
    await line
  })

  it('tells no output, an end in between and a partial line apart', async () => {
    const silent = new LineReader()
    silent.end()
    await expect(silent.next('hello', 100, signal)).rejects.toMatchObject({ code: 'HANDSHAKE_NO_OUTPUT' })

    const half = new LineReader()
    half.push(Buffer.from('one\n'))
    half.end()
    await half.next('hello', 100, signal)
    await expect(half.next('ready', 100, signal)).rejects.toMatchObject({ code: 'HANDSHAKE_EOF' })

    const partial = new LineReader()
    partial.push(Buffer.from('no newline'))
    partial.end()
    expect((await partial.next('hello', 100, signal)).toString()).toBe('no newline')
  })

  it('gives up when the time is over and when the run ends', async () => {
    await expect(new LineReader().next('hello', 10, signal)).rejects.toMatchObject({ code: 'HANDSHAKE_TIMEOUT' })
    const ended = new AbortController()
    const waiting = expect(new LineReader().next('hello', 60_000, ended.signal)).rejects.toThrow('gone')
    ended.abort(new Error('gone'))
    await waiting
  })

  it('survives a whole line written one byte at a time without holding an object per byte', async () => {
    const reader = new LineReader()
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 300_000; i += 1) reader.push(Buffer.from([0x61]))
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(150 * 1024 * 1024)
    reader.push(Buffer.from('\n'))
    expect((await reader.next('hello', 100, signal)).length).toBe(300_000)
  })

  it('gives the same lines as a split of the whole text, for any bytes and any chunks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 }), async (chunks) => {
        const reader = new LineReader()
        for (const chunk of chunks) reader.push(Buffer.from(chunk))
        reader.end()
        const expected = Buffer.concat(chunks).toString('latin1').split('\n')
        if (expected.at(-1) === '') expected.pop()
        for (const line of expected.slice(0, 2)) expect((await reader.next('x', 100, signal)).toString('latin1')).toBe(line)
        await expect(reader.next('x', 5, signal)).rejects.toMatchObject({ code: expected.length === 0 ? 'HANDSHAKE_NO_OUTPUT' : 'HANDSHAKE_EOF' })
      }),
      { seed: 4, numRuns: 300 },
    )
  })
})

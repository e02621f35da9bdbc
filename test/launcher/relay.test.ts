import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants, mkdtempSync, openSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { RELAY_WINDOW_BYTES, StdoutRelay } from '../../src/launcher/relay.ts'
import type { PluginLog } from '../../src/launcher/log-file.ts'

/** A plugin that writes as fast as it may into a real FIFO, as its stdout is one. */
function writer(bytes: number) {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-relay-'))
  execFileSync('/usr/bin/mkfifo', [`${dir}/stdout`])
  const fd = openSync(`${dir}/stdout`, constants.O_RDONLY | constants.O_NONBLOCK)
  const child = spawn('/bin/sh', ['-c', 'head -c "$1" /dev/zero > "$2"', 'writer', String(bytes), `${dir}/stdout`], { stdio: 'ignore' })
  onTestFinished(() => {
    child.kill('SIGKILL')
    source.destroy()
    rmSync(dir, { recursive: true })
  })
  const source = new Socket({ fd, readable: true, writable: false })
  return { source, ended: once(child, 'exit') }
}

function log(): PluginLog & { bytes: number } {
  const kept = { bytes: 0, write: (bytes: Buffer) => { kept.bytes += bytes.length }, tailBytes: () => Buffer.alloc(0), lostBytes: () => 0, close: () => {} }
  return kept
}

const TEN_MB = 10 * 1024 * 1024

describe('the relay of a plugin\'s stdout', () => {
  test('a plugin that writes 10 MB while the gateway takes nothing keeps at most one window and the pipe buffers in the launcher', async () => {
    const { source, ended } = writer(TEN_MB)
    let sent = 0
    const relay = new StdoutRelay(source, log(), (bytes) => { sent += bytes.length })
    await expect.poll(() => sent).toBeGreaterThanOrEqual(RELAY_WINDOW_BYTES)
    await sleep(300)
    expect(sent).toBeLessThan(RELAY_WINDOW_BYTES + 64 * 1024)
    expect(relay.total).toBe(sent)
    // Below the relay: what Node has read ahead. Together far from what the plugin wants to write, so it waits in write(2).
    expect(source.readableLength).toBeLessThanOrEqual(64 * 1024)
    expect(await Promise.race([ended, sleep(100, 'still writing')])).toBe('still writing')
  })

  test('each byte that is taken lets as many follow, to the last', async () => {
    const { source, ended } = writer(TEN_MB)
    let sent = 0
    let taken = 0
    let most = 0
    const logged = log()
    const relay = new StdoutRelay(source, logged, (bytes) => {
      sent += bytes.length
      most = Math.max(most, sent - taken)
      setImmediate(() => {
        taken += bytes.length
        expect(relay.taken(bytes.length)).toBe(true)
      })
    })
    await ended
    await expect.poll(() => taken, { timeout: 30_000 }).toBe(TEN_MB)
    expect(logged.bytes).toBe(TEN_MB)
    expect(most).toBeLessThan(RELAY_WINDOW_BYTES + 64 * 1024)
  })

  test('a gateway that claims more than it was sent is told apart; after the handshake late claims are expected', async () => {
    const { source } = writer(1000)
    const relay = new StdoutRelay(source, log(), () => {})
    await expect.poll(() => relay.total).toBe(1000)
    expect(relay.taken(1001)).toBe(false)
    expect(relay.taken(1000)).toBe(true)
    expect(relay.taken(1)).toBe(false)
    relay.finish()
    expect(relay.taken(1)).toBe(true)
  })

  test('after the handshake it drains to the log alone, however much comes', async () => {
    const { source, ended } = writer(TEN_MB)
    let sent = 0
    const logged = log()
    const relay = new StdoutRelay(source, logged, (bytes) => { sent += bytes.length })
    await expect.poll(() => sent).toBeGreaterThanOrEqual(RELAY_WINDOW_BYTES)
    const before = sent
    relay.finish()
    await ended
    await expect.poll(() => logged.bytes).toBe(TEN_MB)
    expect(sent).toBe(before)
  })
})

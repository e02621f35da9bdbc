import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { COMMANDS } from '../../src/cli/commands.ts'
import { runCli } from '../../src/cli/main.ts'
import type { HostConfig } from '../../src/policy/host-config.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { encodeMessage, FrameReader, type Frame } from '../../src/wire/frame.ts'
import { FROM_OPERATOR, type FromOperator } from '../../src/wire/requests.ts'

/** A daemon that answers each request with what `reply` makes of it; requests that the real one would refuse fail the test. */
export async function fakeDaemon(runDir: string, reply: (request: FromOperator) => object): Promise<{ readonly server: Server; readonly asked: FromOperator[] }> {
  const asked: FromOperator[] = []
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.pipe(new FrameReader()).on('data', (frame: Frame) => {
      const request = FROM_OPERATOR.parse(frame.kind === 'message' ? frame.value : null)
      asked.push(request)
      socket.end(encodeMessage(reply(request)))
    })
  }).listen(join(runDir, 'control.sock'))
  await once(server, 'listening')
  return { server, asked }
}

/** For a whole test file: before each test a directory of its own, after it nothing. */
export function fakeHost(prefix: string) {
  const host = {
    config: DEFAULT_HOST_CONFIG,
    server: null as Server | null,
    /** @returns what it is asked, as it comes */
    async daemon(reply: (request: FromOperator) => object): Promise<FromOperator[]> {
      const fake = await fakeDaemon(host.config.runDir, reply)
      host.server = fake.server
      return fake.asked
    },
  }
  beforeEach(() => { host.config = { ...DEFAULT_HOST_CONFIG, runDir: mkdtempSync(`/tmp/cordon-cli-${prefix}-`) } })
  afterEach(() => {
    host.server?.close()
    rmSync(host.config.runDir, { recursive: true, force: true })
  })
  return host
}

/** One command line, as a script would run it. */
export async function cordon(config: HostConfig, ...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = []
  const err: string[] = []
  const place = { tree: process.cwd(), version: '0.1.0', signal: new AbortController().signal, loadConfig: () => config }
  const status = await runCli(argv, { out: (line) => out.push(line), err: (line) => err.push(line), color: false }, place, COMMANDS)
  return { status, out: out.join('\n'), err: err.join('\n') }
}

export const pluginStatus = (name: string, more: object = {}) => ({
  name, state: 'running', reason: null, run: '0123456789abcdef', since: '2026-01-01T00:00:00Z', restarts: 0, policyDigest: 'd'.repeat(64),
  executableSha256: 'e'.repeat(64), generation: '2', version: '1.0.0', unenforced: [], learning: null, door: 'open', temporary: 0, ...more,
})
export const statusAnswer = (...plugins: object[]) => ({ ok: { plugins, port: 8480, version: '0.1.0', refused: 0, notRecorded: [] } })

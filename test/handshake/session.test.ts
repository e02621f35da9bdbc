import { createServer, type Server } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { Pool } from 'undici'
import { afterEach, describe, expect, it } from 'vitest'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { CordonError, type SafeError } from '../../src/errors.ts'
import { startSession, type RunningPlugin, type Session, type SessionDeps, type StartedRun } from '../../src/handshake/session.ts'
import { helloLine, manifestLine, MINIMAL, readyLine } from './manifests.ts'

/** No limit of these is reached, however busy the machine; HASTY is for what should run into one. The grace is no limit: it is waited out. */
const LIMITS = { helloMs: 20_000, readyMs: 20_000, probe: { everyMs: 5, totalMs: 20_000, totalWithoutChannelMs: 20_000, oneMs: 10_000, graceMs: 1 }, exitGraceMs: 30 }
const HASTY = { helloMs: 80, readyMs: 80, probe: { everyMs: 5, totalMs: 600, totalWithoutChannelMs: 600, oneMs: 400, graceMs: 1 }, exitGraceMs: 30 }
const NEWLINE = Buffer.from('\n')
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

interface Scene {
  readonly session: Session
  /** What happened, in order. */
  readonly steps: string[]
  readonly warnings: string[]
  readonly failed: Promise<SafeError>
  readonly running: Promise<RunningPlugin>
  loseChannel(reason: string): void
  becomeUnwell(reason: string): void
  readonly server: Server
  feedRaw(bytes: Buffer): void
}

async function scene(started: Partial<StartedRun> = {}, deps: Partial<SessionDeps> = {}, status = 404): Promise<Scene> {
  const dir = await mkdtemp(join(tmpdir(), 'cordon-session-'))
  const socketPath = join(dir, 's')
  const server = createServer((_, response) => void response.writeHead(status, { 'content-length': '0' }).end())
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  const dispatcher = new Pool('http://localhost', { socketPath, connect: { socketPath } })
  const steps: string[] = []
  const warnings: string[] = []
  const failed = Promise.withResolvers<SafeError>()
  const running = Promise.withResolvers<RunningPlugin>()
  const lost = Promise.withResolvers<string>()
  const unwell = Promise.withResolvers<string>()
  const session = startSession(
    {
      run: '00000000000000aa' as RunId, plugin: 'sample' as PluginName, style: '2', secret: 's', socketPath, uid: 1,
      grants: ['events_read'], legacyGrants: 'grant', publicPaths: ['/hooks'], ...started,
    },
    {
      limits: LIMITS,
      releaseLaunchConfig: async () => void steps.push('config'),
      openSocket: async () => (steps.push('socket'), { dispatcher, probes: dispatcher, fdPath: socketPath, close: () => void steps.push('socket closed') }),
      openChannel: async () => (steps.push('channel'), { closed: lost.promise, close: () => void steps.push('channel closed') }),
      watchHealth: async () => unwell.promise,
      onAccepted: (_, generation, permissions) => void steps.push(`accepted ${generation} ${permissions.join(',')}`),
      onRunning: (plugin) => {
        steps.push('running')
        running.resolve(plugin)
      },
      onFailed: (error) => {
        steps.push(`failed ${error.code}`)
        failed.resolve(error)
      },
      onChannelClosed: (reason) => void steps.push(`lost ${reason}`),
      warn: (message) => void warnings.push(message),
      isStopping: () => false,
      ...deps,
    },
  )
  cleanups.push(() => rm(dir, { recursive: true }), () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))), () => dispatcher.destroy(), () => session.end())
  const say = (line: Buffer): void => session.feed(Buffer.concat([line, NEWLINE]))
  return { session: { ...session, feed: say }, steps, warnings, failed: failed.promise, running: running.promise, loseChannel: lost.resolve, becomeUnwell: unwell.resolve, server, feedRaw: (bytes) => session.feed(bytes) }
}

const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

describe('a run of generation 2', () => {
  it('goes through config, socket and channel in this order, then runs', async () => {
    const s = await scene()
    s.session.feed(helloLine({ ...MINIMAL, public_paths: ['/hooks/in'] }))
    s.session.feed(readyLine({ openapi: { openapi: '3.0.0', paths: {} } }))
    expect(await s.running).toMatchObject({ generation: '2', permissions: ['events_read'], publicPaths: ['/hooks/in'], openapi: { openapi: '3.0.0', paths: {} } })
    expect(s.steps).toEqual(['accepted 2 events_read', 'config', 'socket', 'channel', 'running'])
    s.session.end()
    await expect.poll(() => s.steps.slice(5)).toEqual(['channel closed', 'socket closed'])
  })

  it('gets no launch config when its name, its needs or its version are refused', async () => {
    for (const [line, code] of [
      [helloLine({ ...MINIMAL, name: 'other' }), 'HANDSHAKE_NAME'],
      [helloLine({ ...MINIMAL, requires_db: true }), 'HANDSHAKE_REQUIRES_DB'],
      [helloLine({ ...MINIMAL, requires_host_data_access: true }), 'HANDSHAKE_REQUIRES_HOST_DATA'],
      [helloLine(MINIMAL, { protocol_version: 3 }), 'HANDSHAKE_VERSION'],
      [Buffer.from('hello world'), 'HANDSHAKE_MALFORMED'],
    ] as const) {
      const s = await scene()
      s.session.feed(line)
      expect((await s.failed).code).toBe(code)
      expect(s.steps).toEqual([`failed ${code}`])
    }
  })

  it('fails when hello or ready does not come in time', async () => {
    expect((await (await scene({}, { limits: HASTY })).failed).code).toBe('HANDSHAKE_TIMEOUT')
    const s = await scene({}, { limits: { ...HASTY, helloMs: 20_000 } })
    s.session.feed(helloLine())
    expect((await s.failed).message).toContain('`ready`')
    expect(s.steps).toEqual(['accepted 2 events_read', 'config', 'failed HANDSHAKE_TIMEOUT'])
  })

  it('fails when the launcher cannot take the socket over or the channel is refused', async () => {
    const refuse = (code: 'HANDSHAKE_SOCKET' | 'CHANNEL_REFUSED') => () => Promise.reject(new CordonError(code, 'no'))
    for (const deps of [{ openSocket: refuse('HANDSHAKE_SOCKET') }, { openChannel: refuse('CHANNEL_REFUSED') }]) {
      const s = await scene({}, deps)
      s.session.feed(helloLine())
      s.session.feed(readyLine())
      expect((await s.failed).code).toMatch(/HANDSHAKE_SOCKET|CHANNEL_REFUSED/)
      expect(s.steps).not.toContain('running')
    }
  })

  it('fails when it keeps answering 503, and runs when it answers anything else', async () => {
    const s = await scene({}, { limits: { ...LIMITS, probe: { ...LIMITS.probe, totalMs: 2000 } } }, 503)
    s.session.feed(helloLine())
    s.session.feed(readyLine())
    expect(await s.failed).toMatchObject({ code: 'HANDSHAKE_NOT_SERVING', message: expect.stringContaining('status 503') as string })
  })

  it('is told what the plugin answered, not that the last probe was cut off', async () => {
    let asked = 0
    const s = await scene({}, { limits: { ...LIMITS, probe: { ...LIMITS.probe, totalMs: 2000 } } }, 503)
    s.server.removeAllListeners('request')
    s.server.on('request', (_, response) => { if (asked++ === 0) response.writeHead(503, { 'content-length': '0' }).end() })
    s.session.feed(helloLine())
    s.session.feed(readyLine())
    expect((await s.failed).message).toContain('status 503')
    expect(asked).toBe(2)
  })

  it('fails when the channel or the health is lost later, and closes what it held', async () => {
    for (const how of ['loseChannel', 'becomeUnwell'] as const) {
      const s = await scene()
      s.session.feed(helloLine())
      s.session.feed(readyLine())
      await s.running
      s[how]('because')
      expect(await s.failed).toMatchObject({ code: how === 'loseChannel' ? 'CHANNEL_LOST' : 'HEALTH_FAILED', message: expect.stringContaining('because') as string })
      expect(s.steps).toEqual(expect.arrayContaining(['channel closed', 'socket closed']))
    }
  })
})

describe('any bytes on stdout', () => {
  it('end in one failure before any secret is sent, and never in a run', async () => {
    const chunks = fc.array(fc.oneof(fc.uint8Array({ maxLength: 64 }), fc.constant(new Uint8Array([0x0a])), fc.json().map((j) => new TextEncoder().encode(j))), { minLength: 1, maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(chunks, fc.constantFrom('2', '1', '1db'), async (parts, style) => {
        const s = await scene({ style }, { limits: { ...LIMITS, helloMs: 20, exitGraceMs: 1 } })
        for (const part of parts) s.feedRaw(Buffer.from(part))
        s.session.stdoutEnd()
        expect((await s.failed).code).toMatch(/^HANDSHAKE_/)
        expect(s.steps).toHaveLength(1)
        for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
      }),
      { seed: 21, numRuns: 150 },
    )
  })
})

describe('a run of generation 1', () => {
  it('gets no launch config and runs', async () => {
    const s = await scene({ style: '1' })
    s.session.feed(manifestLine())
    s.session.feed(Buffer.from('{"type":"ready","ready":true,"has_ui":false}'))
    expect((await s.running).generation).toBe('1')
    expect(s.steps).toEqual(['accepted 1 events_read', 'socket', 'channel', 'running'])
  })

  it('runs without a channel, and goes on when it loses one', async () => {
    const without = await scene({ style: '1' }, { openChannel: () => Promise.reject(new CordonError('CHANNEL_REFUSED', '404')) })
    without.session.feed(manifestLine())
    without.session.feed(readyLine())
    await without.running
    expect(without.warnings).toEqual([expect.stringContaining('no data access')])

    const s = await scene({ style: '1' })
    s.session.feed(manifestLine())
    s.session.feed(readyLine())
    await s.running
    s.loseChannel('gone')
    await later(60)
    expect(s.steps).toEqual(['accepted 1 events_read', 'socket', 'channel', 'running', 'lost gone'])
  })
})

describe('the end of a run', () => {
  it('is not reported as a failure when the process goes right after its stdout', async () => {
    const s = await scene({}, { limits: { ...LIMITS, exitGraceMs: 20_000 } })
    s.session.stdoutEnd()
    await later(5)
    s.session.end()
    await later(60)
    expect(s.steps).toEqual([])
  })

  it('is a failure when stdout ends and the process stays', async () => {
    const s = await scene({}, { limits: HASTY })
    s.session.stdoutEnd()
    expect((await s.failed).code).toBe('HANDSHAKE_NO_OUTPUT')
  })

  it('is no failure while the launcher is stopping it', async () => {
    const s = await scene({}, { isStopping: () => true })
    s.session.feed(helloLine())
    s.session.feed(readyLine())
    await s.running
    s.loseChannel('stopping')
    await later(80)
    expect(s.steps).not.toContain('failed CHANNEL_LOST')
  })

  it('closes a socket that was opened for a run that had ended meanwhile', async () => {
    const opened = Promise.withResolvers<void>()
    const steps: string[] = []
    const s = await scene({}, {
      openSocket: async () => {
        await opened.promise
        const dispatcher = new Pool('http://localhost')
        return { dispatcher, probes: dispatcher, fdPath: '/x', close: () => void steps.push('closed') }
      },
    })
    s.session.feed(helloLine())
    s.session.feed(readyLine())
    await later(10)
    s.session.end()
    opened.resolve()
    await later(10)
    expect(steps).toEqual(['closed'])
  })
})

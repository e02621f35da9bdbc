import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { watchHealth } from '../../src/registry/health.ts'

const LIMITS = { everyMs: 5, timeoutMs: 20_000, failures: 3 }
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function plugin(answer: (request: IncomingMessage, response: ServerResponse) => void, standsStill = () => false, limits = LIMITS) {
  const dir = await mkdtemp(join(tmpdir(), 'cordon-health-'))
  const socketPath = join(dir, 's')
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  const dispatcher = new Pool('http://localhost', { socketPath, connect: { socketPath } })
  const ended = new AbortController()
  const changes: [boolean, string][] = []
  cleanups.push(() => rm(dir, { recursive: true }), async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }, () => dispatcher.destroy())
  const watching = watchHealth({ dispatcher, secret: 's3cret', path: '/health', standsStill }, limits, ended.signal, (healthy, detail) => void changes.push([healthy, detail]))
  watching.catch(() => {})
  return { watching, changes, ended }
}

describe('watchHealth', () => {
  it('asks the declared path with the secret and calls 2xx healthy, once', async () => {
    const seen: string[] = []
    const { changes, ended, watching } = await plugin((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['x-temps-auth-signature']} ${request.headers.host}`)
      response.writeHead(204).end()
    })
    while (seen.length < 4) await new Promise((resolve) => setTimeout(resolve, 5))
    ended.abort(new Error('over'))
    await expect(watching).rejects.toThrow()
    expect(seen[0]).toBe('GET /health s3cret localhost')
    expect(changes).toEqual([[true, 'GET /health answered']])
  })

  it('gives a plugin up after three failures in a row, and not before', async () => {
    const answers = [200, 500, 500, 200, 503, 404, 302]
    let asked = 0
    const { watching, changes } = await plugin((_, response) => {
      response.writeHead(answers[asked] ?? 200).end()
      asked += 1
    })
    expect(await watching).toBe('GET /health failed 3 times in a row, last: status 302')
    expect(asked).toBe(7)
    expect(changes.map(([healthy]) => healthy)).toEqual([true, false])
  })

  it('asks nothing of a plugin that stands still, and forgives what it did not answer before', async () => {
    let [asked, still] = [0, false]
    const { watching, ended } = await plugin((_, response) => {
      asked += 1
      if (asked % 3 === 2) still = true // twice unanswered, then it stands still
      response.writeHead(500).end()
    }, () => still)
    for (const round of [1, 2, 3]) {
      await vi.waitUntil(() => still, { timeout: 10_000 })
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(asked).toBe(round * 3 - 1)
      asked = round * 3
      still = false
    }
    ended.abort(new Error('over'))
    await expect(watching).rejects.toThrow()
  })

  it('counts no answer in time as a failure, and is not held up by an endless body', async () => {
    const silent = await plugin(() => {}, undefined, { ...LIMITS, timeoutMs: 50 })
    expect(await silent.watching).toMatch(/failed 3 times/)
    let asked = 0
    const endless = await plugin((_, response) => {
      asked += 1
      response.writeHead(200)
      response.on('error', () => {})
      response.write('x'.repeat(1000))
    })
    while (asked < 3) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(endless.changes).toEqual([[true, 'GET /health answered']])
    endless.ended.abort()
  })
})

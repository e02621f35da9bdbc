import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { readReport } from '../../deploy/demo/report.ts'
import { wrap } from '../../deploy/demo/show.ts'
import { openSession } from '../../deploy/demo/visit.ts'
import { byWall } from '../../src/cli/attempts.ts'

const HELD = { wall: 'user', tried: 'read the password hashes', result: 'ENOENT', expected: ['ENOENT'], verdict: 'held' }
const BROKEN = { ...HELD, wall: 'network', tried: 'reach the Internet', result: 'OK', verdict: 'BROKEN' }
const UNTRIED = { ...HELD, wall: 'seccomp', result: 'NONE', verdict: 'not-applicable', reason: 'not on this machine' }

/** The report of a plugin as the demo would fetch it. */
function reportOf(rows: readonly object[], status = 200) {
  return readReport({ get: () => Promise.resolve({ status, type: 'application/json', text: JSON.stringify(rows) }) })
}

test('a wall counts as held only if something was tried at it and nothing got through', async () => {
  const attempts = await reportOf([HELD, HELD, BROKEN, { ...HELD, wall: 'network' }, UNTRIED, { summary: true, held: 3, broken: 1 }])
  expect(byWall(attempts).map(({ name, held }) => [name, held])).toEqual([['user', true], ['network', false], ['seccomp', false]])
  expect(byWall(attempts)[0]).toMatchObject({ made: 2, example: HELD })
})

test.each([
  ['without a sum', [HELD]],
  ['with another sum than its rows', [HELD, { summary: true, held: 2, broken: 0 }]],
  ['that hides what got through', [HELD, { summary: true, held: 1, broken: 1 }]],
  ['without attempts', [{ summary: true, held: 0, broken: 0 }]],
  ['that goes on after its sum', [HELD, { summary: true, held: 1, broken: 0 }, UNTRIED]],
  ['with a row that is none', [HELD, { wall: 'user' }, { summary: true, held: 1, broken: 0 }]],
])('a report %s proves nothing and is refused', async (_what, rows) => {
  await expect(reportOf(rows)).rejects.toThrow('not complete')
})

test('a report that is not served is refused', async () => {
  await expect(reportOf([HELD], 502)).rejects.toThrow('HTTP 502')
})

/** Answers with what `reply` says for a path: a status and headers. */
async function site(reply: (path: string, cookie: string | undefined) => [number, Record<string, string>]): Promise<string> {
  const server = createServer((request, response) => {
    const [status, headers] = reply(request.url ?? '', request.headers.cookie)
    response.writeHead(status, headers).end('page')
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => void server.close())
  return `http://notes.localhost:${(server.address() as AddressInfo).port}`
}

test('a one-time link is followed as a browser does it, and its cookie comes along afterwards', async () => {
  const seen: (string | undefined)[] = []
  const origin = await site((path, cookie) => {
    seen.push(cookie)
    if (path === '/once') return [303, { location: '/page', 'set-cookie': 'cordon_1=a=b; Path=/; HttpOnly' }]
    return [200, { 'content-type': 'text/html' }]
  })
  const session = await openSession(`${origin}/once`)
  expect(await session.get('/api')).toMatchObject({ status: 200, type: 'text/html', text: 'page' })
  expect(seen).toEqual([undefined, 'cordon_1=a=b', 'cordon_1=a=b'])
})

test.each<[string, [number, Record<string, string>], string]>([
  ['is refused', [403, {}], 'HTTP 403'],
  ['leads to another origin', [302, { location: 'http://localhost:1/' }], 'another origin'],
  ['is redirected without end', [302, { location: '/again' }], 'without end'],
])('a link that %s is an error', async (_what, reply, message) => {
  await expect(openSession(`${await site(() => reply)}/once`)).rejects.toThrow(message)
})

test('text is wrapped at words, and a word that is too long is cut', () => {
  expect(wrap('one two three', 8)).toEqual(['one two', 'three'])
  expect(wrap('abcdefghij', 4)).toEqual(['abcd', 'efgh', 'ij'])
  expect(wrap('', 4)).toEqual([''])
})

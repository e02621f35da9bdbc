import type { IncomingMessage } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { forwardedUser } from '../../src/proxy/forwarded-user.ts'
import { Bed, echo, until } from './fixture.ts'

const SETTING = { header: 'X-Forwarded-User', from: ['127.0.0.1'] }

describe('over HTTP', () => {
  const [trusting, other] = [new Bed(), new Bed()]
  beforeAll(async () => {
    await trusting.start({ forwardedUser: SETTING })
    await other.start({ forwardedUser: { ...SETTING, from: ['192.0.2.7'] } })
    for (const bed of [trusting, other]) await bed.plugin('seo', echo)
  })
  afterAll(async () => {
    await trusting.stop()
    await other.stop()
  })
  afterEach(() => {
    for (const bed of [trusting, other]) bed.events.length = bed.acts.length = 0
  })

  const said = async (bed: Bed, headers: Readonly<Record<string, string | string[]>>): Promise<unknown[]> => {
    await bed.api('/api/x/plugins/seo/restart', headers as Record<string, string>, 'POST')
    await bed.api('/api/x/seo/write', headers as Record<string, string>, 'POST')
    await until(() => bed.events.filter(({ type }) => type === 'http.request').length === 2)
    return [...bed.acts.map((act) => (act as { who: string }).who), ...bed.events.flatMap((event) => (event.type === 'http.request' ? [event.who] : []))]
  }

  test('the user that the proxy names stands in the record of acts and requests', async () => {
    expect(await said(trusting, { 'x-forwarded-user': 'alice' })).toEqual(['admin token from 127.0.0.1, forwarded user alice', 'admin via token, forwarded user alice', 'admin via token, forwarded user alice'])
  })

  test('the header of anybody else is nobody\'s, and so is every other header', async () => {
    const nobody = ['admin token from 127.0.0.1', 'admin via token', 'admin via token']
    expect(await said(other, { 'x-forwarded-user': 'alice' })).toEqual(nobody)
    expect(await said(trusting, { 'x-remote-user': 'alice', forwarded: 'for=alice' })).toEqual(nobody)
  })

  test('it opens nothing: without the token there is no act', async () => {
    const reply = await trusting.send('POST', '/api/x/plugins/seo/restart', { 'x-forwarded-user': 'alice' })
    expect([reply.status, trusting.acts]).toEqual([401, []])
  })
})

describe('a name', () => {
  const of = (names: string[], remoteAddress: string | undefined = '127.0.0.1', setting = SETTING): string =>
    forwardedUser(setting)({ socket: { remoteAddress }, headersDistinct: { 'x-forwarded-user': names } } as unknown as IncomingMessage)

  test('is made printable and bounded', () => {
    expect(of(['a\u001b[2J\u009b'])).toBe(', forwarded user a\\x1b[2J\\x9b')
    expect(of(['\u0007'.repeat(5000)]).length).toBeLessThanOrEqual(', forwarded user '.length + 64)
  })

  test('that came twice is believed neither time', () => {
    expect(of(['alice', 'bob'])).toBe(', forwarded user named more than once')
  })

  test('comes from the address that was named, in whichever form, and from no other', () => {
    expect(of(['alice'], '::ffff:127.0.0.1')).toBe(', forwarded user alice')
    expect(of(['alice'], '::1', { ...SETTING, from: ['::1'] })).toBe(', forwarded user alice')
    expect([of(['alice'], '127.0.0.2'), of(['alice'], '::1'), of(['alice'], ''), forwardedUser(null)({} as IncomingMessage)]).toEqual(['', '', '', ''])
  })
})

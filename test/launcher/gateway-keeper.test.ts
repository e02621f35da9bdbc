import { expect, test } from 'vitest'
import type { GatewayProcess } from '../../src/launcher/gateway-child.ts'
import { GatewayKeeper } from '../../src/launcher/gateway-keeper.ts'

/** Gateways that end when they are told to, and what the keeper did about it, in order. */
function world(port: number, ports: readonly number[]) {
  const said: string[] = []
  const abort = new AbortController()
  const ends: ((reason: string) => void)[] = []
  let failing = 0
  let standing: Promise<void> | null = null
  const keeper = new GatewayKeeper({
    listen: { host: '127.0.0.1', port }, stopping: abort.signal,
    start: async (listen) => {
      if (failing-- > 0) throw new Error('no slot')
      const { promise: ended, resolve } = Promise.withResolvers<{ exit: { status: number; text: string; oomKills: number }; reason: string }>()
      const end = (reason: string): void => resolve({ exit: { status: 0, text: 'exit 0', oomKills: 0 }, reason })
      said.push(`start ${listen.port}`)
      ends.push(end)
      await standing
      return { port: ports[ends.length - 1] ?? listen.port, ended, stop: async () => { said.push('stop'); end('stopped') } } as Partial<GatewayProcess> as GatewayProcess
    },
    onServing: () => said.push('serving'),
    onLost: async () => said.push('lost'),
    onDefect: (error) => said.push(String(error)),
    log: () => {},
  })
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    standing = promise
    return resolve
  }
  return { keeper, said, abort, ends, hold, fail: (times: number) => { failing = times } }
}

test('a gateway that ended is followed by another once its plugins were told, on the port that was taken first', async () => {
  const { keeper, said, ends } = world(0, [4711])
  await keeper.start()
  expect([keeper.port, keeper.reason]).toEqual([4711, null])
  ends[0]?.('it fell')
  await expect.poll(() => said).toEqual(['start 0', 'serving', 'lost', 'start 4711', 'serving'])
})

test('a port that needs a privilege is not kept on the gateway\'s word', async () => {
  const { keeper, said, ends } = world(0, [80])
  await keeper.start()
  ends[0]?.('it fell')
  await expect.poll(() => said).toContain('lost')
  await expect.poll(() => said.filter((one) => one.startsWith('start'))).toEqual(['start 0', 'start 0'])
})

test('while none serves the reason is told, and who waits for one gets the next', async () => {
  const { keeper, ends, fail } = world(8080, [])
  await keeper.start()
  fail(1)
  ends[0]?.('it fell')
  await expect.poll(() => keeper.reason).toBe('no slot')
  expect([keeper.now, keeper.port]).toEqual([null, 8080])
  const gone = new AbortController()
  const [left, ready] = [keeper.ready(gone.signal), keeper.ready(new AbortController().signal)]
  gone.abort()
  await expect(left).rejects.toMatchObject({ code: 'LAUNCH_STATE' })
  await ready
  expect(keeper.now).not.toBeNull()
  expect(keeper.reason).toBeNull()
})

test('when the daemon stops, the gateway is stopped, plugins are not told, and none follows', async () => {
  const { keeper, said, abort } = world(8080, [])
  await keeper.start()
  abort.abort()
  await keeper.stop()
  expect(said).toEqual(['start 8080', 'serving', 'stop'])
  expect(keeper.now).toBeNull()
})

test('a gateway that was being started again when the daemon stopped is stopped as soon as it stands', async () => {
  const { keeper, said, ends, abort, hold } = world(8080, [])
  await keeper.start()
  const stands = hold()
  ends[0]?.('it fell')
  await expect.poll(() => said.filter((one) => one === 'start 8080')).toHaveLength(2)
  abort.abort()
  const stopped = keeper.stop()
  stands()
  await stopped
  expect(said).toEqual(['start 8080', 'serving', 'lost', 'start 8080', 'serving', 'stop'])
})

import { describe, expect, test } from 'vitest'
import { Answers, type AnswersDeps } from '../../src/launcher/answers.ts'
import type { FromOperator } from '../../src/wire/requests.ts'
import type { PluginName } from '../../src/base/ids.ts'

/** Only what these requests need; no plugin is known. */
function answers(): { ask(request: FromOperator): Promise<unknown>; looked(): number; readonly records: object[] } {
  let looked = 0
  const records: object[] = []
  const unknown = (): never => { throw new Error('no such plugin') }
  const deps = {
    version: '1', observer: { recordsRefusedCalls: true }, gateway: () => ({ now: null, reason: null }),
    plugins: { statuses: () => [], adopt: async () => [], refused: [], get: () => null, known: unknown },
    egressActs: { show: async () => null }, audit: { note: (event: object) => records.push(event), state: () => ({ error: null }) }, config: { policiesDir: '/' },
  } as unknown as AnswersDeps
  const peer = async (): Promise<null> => {
    looked += 1
    return null
  }
  return { ask: (request) => new Answers(deps).operator(request, peer), looked: () => looked, records }
}

describe('who asks', () => {
  const plugin = 'image' as PluginName

  test('is looked up by nothing that only reads', async () => {
    const { ask, looked } = answers()
    await ask({ type: 'status' })
    await ask({ type: 'why', plugin })
    await ask({ type: 'egress', plugin })
    await ask({ type: 'inspect', plugin }).catch(() => undefined) // there is no such plugin
    expect(looked()).toBe(0)
    await ask({ type: 'reload', who: 'root' }) // the control
    expect(looked()).toBe(1)
  })

  test('is the command\'s own word where the kernel does not tell, and the record says so', async () => {
    const { ask, records } = answers()
    await ask({ type: 'reload', who: 'root (SUDO_USER alice\u001b[2J)' })
    expect(records).toEqual([{ type: 'admin.act', act: 'reload', who: 'root (SUDO_USER alice\\x1b[2J)', who_verified: false }])
  })
})

test('a plugin is disabled also where that cannot be written down, and its operator hears of it', async () => {
  const stopped: string[] = []
  const plugin = { stop: async (reason: string, state: string) => void stopped.push(`${state}: ${reason}`), status: () => ({}) }
  const deps = {
    plugins: { known: () => plugin }, audit: { note: () => undefined },
    disabled: { add: () => { throw Object.assign(new Error('no space'), { code: 'ENOSPC' }) } },
  } as unknown as AnswersDeps
  const asked = new Answers(deps).operator({ type: 'act', act: 'disable', plugin: 'image' as PluginName, who: 'root' }, async () => null)
  await expect(asked).rejects.toMatchObject({ code: 'STORE_IO', message: expect.stringContaining('ENOSPC') as string })
  expect(stopped).toEqual(['disabled: disabled by root'])
})

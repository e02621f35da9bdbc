import { beforeAll, expect, test } from 'vitest'
import { runInVm, type VmOptions } from './vm.ts'

/**
 * Boot one VM, run a script of test/vm/guest in it, and turn each of its lines into a test. A boot is dear, so a script holds many promises.
 * The script prints `ok PROMISE` or `not ok PROMISE # reason` (guest/lib.sh). A planned promise that it does not speak of fails, and so does
 * one that was not planned: a script that dies early, or a typing error, must not pass.
 * @param command run in the repository, e.g. `['bash', 'test/vm/guest/platform.sh']`
 */
export function guestPromises(command: readonly string[], promises: readonly string[], options: VmOptions = {}): void {
  let run: { status: number; output: string } = { status: -1, output: '' }
  let results: ReadonlyMap<string, string> = new Map()
  beforeAll(async () => {
    run = await runInVm(command, options)
    results = parseResults(run.output)
  })

  for (const promise of promises) {
    test(promise, () => {
      const said = results.get(promise) ?? `not said by the guest, which ended with ${run.status}:\n${run.output}`
      expect(said, said).toBe('ok') // the reason in full
    })
  }

  test('the guest kept to the plan and ended well', () => {
    expect([...results.keys()].filter((promise) => !promises.includes(promise))).toEqual([])
    expect(run, run.output).toMatchObject({ status: 0 })
  })
}

/** A promise that is reported twice keeps its failure. */
function parseResults(output: string): Map<string, string> {
  const results = new Map<string, string>()
  for (const line of output.split('\n')) {
    const [, verdict, promise, reason] = /^(ok|not ok) (.*?)(?: # (.*))?$/.exec(line) ?? []
    if (verdict === undefined || promise === undefined) continue
    if (verdict === 'ok' && !results.has(promise)) results.set(promise, 'ok')
    if (verdict !== 'ok') results.set(promise, reason ?? 'no reason given')
  }
  return results
}

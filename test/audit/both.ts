import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, expect } from 'vitest'
import type { VerifyOptions } from '../../src/audit/verify/evidence.ts'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { verifierKeyText } from '../../src/audit/verify/note.ts'
import type { VerifyResult } from '../../src/audit/verify/verdict.ts'

export const PYTHON_VERIFIER = join(import.meta.dirname, '../../deploy/audit-verify.py')

let child: ChildProcessWithoutNullStreams | null = null
const waiting: ((line: string) => void)[] = []

afterAll(() => void child?.kill())

/** `problem`: what it could not check at all. */
export type PythonResult = VerifyResult & { readonly problem?: string }

/** One question to one long-lived `audit-verify.py --batch`. */
export async function askPython(question: unknown): Promise<PythonResult> {
  if (child === null) {
    child = spawn('/usr/bin/python3', [PYTHON_VERIFIER, '--batch'])
    child.stderr.on('data', (chunk: Buffer) => process.stderr.write(chunk))
    child.on('exit', () => {
      child = null // what ended this one must not hold up the next
      for (const resolve of waiting.splice(0)) resolve('{"verdict":"the Python verifier has ended"}')
    })
    createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.(line))
  }
  const { stdin } = child
  const line = await new Promise<string>((resolve) => {
    waiting.push(resolve)
    stdin.write(`${JSON.stringify(question)}\n`)
  })
  return JSON.parse(line) as VerifyResult
}

/** What both verifiers say; they must agree in verdict, first bad record, missing ranges and everything that is counted. */
export async function both(dir: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const asked = askPython({
    dir, now: options.now, key: options.pin, with: options.saved, witness: options.witnesses?.map(verifierKeyText),
    head: options.head === undefined ? undefined : `${options.head.seq}:${options.head.hash}`,
  })
  const [ours, theirs] = await Promise.all([verifyLog(dir, options), asked]) // two processes, two CPUs
  const essence = (result: VerifyResult): unknown => ({
    verdict: result.verdict, records: result.records, bad: result.firstBad === null ? null : [result.firstBad.seq, result.firstBad.file, result.firstBad.line, result.firstBad.offset],
    missing: result.missing, pruned: result.pruned, gaps: result.gapCount, pauses: result.pauses, steps: result.clockSteps, sealed: result.lastSealed, unsealed: result.unsealed, hash: result.lastHash,
    saved: [result.savedConfirmed, result.savedSize], confirmed: [result.keyConfirmed, result.headConfirmed], witnessed: result.lastWitnessed, notes: result.notes.length,
  })
  expect(essence(theirs), `${dir}: ${ours.firstBad?.problem ?? 'nothing wrong'} / ${theirs.firstBad?.problem ?? theirs.problem ?? 'nothing wrong'}`).toEqual(essence(ours))
  return ours
}

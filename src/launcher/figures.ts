import * as z from 'zod'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { runUnprivileged } from './unprivileged.ts'

const bytes = z.number().min(0).max(Number.MAX_SAFE_INTEGER)
const HOST_FIGURES = z.strictObject({
  load1: z.number().min(0).max(1e6),
  cpuPercent: z.number().min(0).max(100),
  cpuCount: z.int().min(1).max(100_000),
  memoryBytes: bytes,
  memoryAvailableBytes: bytes,
  swapBytes: bytes,
  swapUsedBytes: bytes,
  /** The file system of the state directory; null when it is in no list of mounts. */
  disk: z.strictObject({ mount: z.string().max(200).transform((mount) => printable(mount)), bytes, availableBytes: bytes }).nullable(),
})
export type HostFigures = z.infer<typeof HOST_FIGURES>

const TIMEOUT_MS = 10_000
const OUTPUT_BYTES = 64 * 1024

export interface FiguresChild {
  /** uid and gid of Cordon's own range (`Users.own.figuresChild`). */
  readonly uid: number
  /** dist/figures.cjs */
  readonly script: string
  readonly stateDir: string
}

/**
 * Host figures from a short-lived process without privileges. Script and Node binary are passed as descriptors, so the
 * child's user needs no access to the place where Cordon lies.
 * @throws CordonError FIGURES_FAILED (exit status, time, or an output that does not fit the schema); never waits longer than 10 s
 */
export async function readHostFigures(child: FiguresChild, signal?: AbortSignal, timeoutMs = TIMEOUT_MS): Promise<HostFigures> {
  const ended = await runUnprivileged({ uid: child.uid, script: child.script, args: [child.stateDir], timeoutMs, outputBytes: OUTPUT_BYTES }, signal)
  const failed = ended.why ?? (ended.status === 0 ? null : `ended with ${ended.status ?? 'a signal'}: ${printable(ended.stderr, 300)}`)
  if (failed !== null) throw new CordonError('FIGURES_FAILED', `the figures child ${failed}`)
  const output = ended.stdout.toString('utf8')
  let json: unknown
  try {
    json = JSON.parse(output)
  } catch (error) {
    throw new CordonError('FIGURES_FAILED', `the figures child printed "${printable(output, 80)}", expected JSON`, { cause: error })
  }
  const parsed = HOST_FIGURES.safeParse(json)
  if (!parsed.success) throw new CordonError('FIGURES_FAILED', `the figures child printed unexpected figures: ${printable(z.prettifyError(parsed.error), 300)}`)
  return parsed.data
}

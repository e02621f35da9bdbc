import { execa } from 'execa'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'

/** Longest that a helper program (ip, nft, mount, useradd…) may take, and the most it may print. */
const PROGRAM_TIMEOUT_MS = 20_000
const PROGRAM_OUTPUT_BYTES = 1 << 20

/**
 * Run one system program to its end: absolute path, argv array, an environment of our own, bounded in time and output.
 * @param options onOutput: told when it has printed something, with no care for how much
 * @returns its stdout
 * @throws CordonError LAUNCH_PROGRAM with exit status and stderr
 */
export async function runProgram(file: string, args: readonly string[], options: { readonly input?: string; readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number; readonly outputBytes?: number; onOutput?(): void } = {}): Promise<string> {
  const { timeoutMs = PROGRAM_TIMEOUT_MS, outputBytes = PROGRAM_OUTPUT_BYTES } = options
  const running = execa(file, args, {
    extendEnv: false,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...options.env },
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    timeout: timeoutMs,
    maxBuffer: outputBytes,
    reject: false,
    stripFinalNewline: true,
  })
  running.stdout.once('data', () => options.onOutput?.())
  const result = await running
  if (!result.failed) return result.stdout
  const why = result.timedOut ? `took longer than ${timeoutMs / 1000} s` : result.exitCode === undefined ? (result.shortMessage ?? 'failed') : `exited ${result.exitCode}`
  throw new CordonError('LAUNCH_PROGRAM', `${file} ${why}: ${printable(result.stderr, 500)}`)
}

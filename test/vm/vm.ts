import { join } from 'node:path'
import { execa } from 'execa'

const VM_RUN = join(import.meta.dirname, 'vm-run')
const BOOT_ALLOWANCE_S = 240 // a boot takes 10 s on an idle machine; the harness's own limit counts from QEMU's start

export interface VmOptions {
  /** The command's time in seconds, boot included; default 900: what takes two minutes here takes ten where the processor is slow and shared. */
  readonly timeoutSeconds?: number
  /** QEMU's notation; default 2G. The guest's disk is an overlay in half of it. */
  readonly memory?: string
  /** More kernel arguments, such as `ipv6.disable=1`. */
  readonly append?: string
  /** Working directory in the guest, which sees this machine's files; default the repository. */
  readonly dir?: string
  /** `HOSTPORT:GUESTPORT` pairs, reachable from 127.0.0.1. */
  readonly forward?: readonly string[]
}

/**
 * Run one command in a fresh virtual machine.
 * @returns the command's exit status (124: timed out, 125: the guest did not come up) and what it and the harness printed
 */
export async function runInVm(command: readonly string[], options: VmOptions = {}): Promise<{ status: number; output: string }> {
  const limit = options.timeoutSeconds ?? 900
  const args = ['--timeout', String(limit), '--dir', options.dir ?? join(import.meta.dirname, '../..')]
  if (options.memory !== undefined) args.push('--mem', options.memory)
  if (options.append !== undefined) args.push('--append', options.append)
  for (const pair of options.forward ?? []) args.push('--forward', pair)
  const run = await execa('bash', [VM_RUN, ...args, '--', ...command], {
    all: true,
    reject: false,
    stdin: 'ignore',
    timeout: (limit + BOOT_ALLOWANCE_S) * 1000,
    maxBuffer: 16 * 1024 * 1024,
  })
  return { status: run.exitCode ?? 125, output: run.all }
}

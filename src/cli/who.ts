import { readFileSync } from 'node:fs'
import { rootText } from '../base/root-text.ts'

/** Who acts, as this process says of itself; the daemon asks the kernel (launcher/peer.ts) and takes this where that fails. */
export function whoActs(env: Readonly<Record<string, string | undefined>> = process.env, readLoginUid: () => string = () => readFileSync('/proc/self/loginuid', 'utf8')): string {
  return rootText(attempt(readLoginUid), env['SUDO_USER'])
}

function attempt(read: () => string): string | null {
  try {
    return read()
  } catch {
    return null // a kernel without CONFIG_AUDIT has no such file
  }
}

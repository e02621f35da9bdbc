import { readFileSync } from 'node:fs'
import { printable } from '../base/printable.ts'

/** loginuid of a process that no login started (audit(7)): (uid_t)-1. */
const NO_LOGIN = '4294967295'

/**
 * Who stands behind this root, for the record: `root (loginuid 1000, SUDO_USER alice)`. The kernel keeps the login's uid through
 * sudo and su (proc(5), /proc/pid/loginuid); SUDO_USER is only what the environment says.
 */
export function whoActs(env: Readonly<Record<string, string | undefined>> = process.env, readLoginUid: () => string = () => readFileSync('/proc/self/loginuid', 'utf8')): string {
  const loginUid = attempt(readLoginUid)
  const { SUDO_USER: sudoUser } = env
  const known = [
    ...(loginUid === null || loginUid === NO_LOGIN ? [] : [`loginuid ${loginUid}`]),
    ...(sudoUser === undefined || sudoUser === '' ? [] : [`SUDO_USER ${printable(sudoUser, 40)}`]),
  ]
  return known.length === 0 ? 'root' : `root (${known.join(', ')})`
}

function attempt(read: () => string): string | null {
  try {
    const text = read().trim()
    return /^\d{1,10}$/.test(text) ? text : null
  } catch {
    return null // a kernel without CONFIG_AUDIT has no such file
  }
}

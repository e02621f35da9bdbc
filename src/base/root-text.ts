import { printable } from './printable.ts'

/** loginuid of a process that no login started (audit(7)): (uid_t)-1. */
const NO_LOGIN = '4294967295'

/**
 * Who stands behind this root, for the record: `root (loginuid 1000, SUDO_USER alice)`. The kernel keeps the login's uid through
 * sudo and su (proc(5), /proc/pid/loginuid); SUDO_USER is only what the environment says.
 * @param loginUid as read, null: it could not be @param sudoUser untrusted
 */
export function rootText(loginUid: string | null, sudoUser: string | undefined, uid = 0): string {
  const login = loginUid?.trim() ?? ''
  const known = [
    ...(!/^\d{1,10}$/.test(login) || login === NO_LOGIN ? [] : [`loginuid ${login}`]),
    ...(sudoUser === undefined || sudoUser === '' ? [] : [`SUDO_USER ${printable(sudoUser, 40)}`]),
  ]
  const name = uid === 0 ? 'root' : `uid ${uid}`
  return known.length === 0 ? name : `${name} (${known.join(', ')})`
}

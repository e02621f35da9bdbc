import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { execa } from 'execa'
import { printable } from '../base/printable.ts'
import type { PluginName } from '../base/ids.ts'
import { CordonError } from '../errors.ts'
import { DEFAULT_FIRST_UID } from '../policy/load-host-config.ts'
import { appendRecord, readLedger, type Ledger } from './uid-ledger.ts'

/** The first 16 numbers of the range are Cordon's own processes; plugins come after. */
export const OWN_UIDS = 16
const OWN_OFFSETS = { gateway: 0, listenHelper: 1, figuresChild: 2, probe: 3, door: 4, doorHelper: 5, exporter: 6, push: 7 } as const

/** One below (uid_t)-1 as a signed number: some tools keep ids in an int (containerd CVE-2024-40635). */
const MAX_UID = 0x7fff_fffe
const TOOL_TIMEOUT_MS = 30_000
/** Each lost race means that another process won one: 100 in a row do not happen. */
const MAX_RACES = 100

export interface PluginUser {
  readonly uid: number
  readonly gid: number
  readonly userName: string
}

export interface Users {
  /** Uids and gids of Cordon's own processes; numeric only, they have no passwd entry. `probe`: what doctor and selftest try. */
  readonly own: Readonly<Record<keyof typeof OWN_OFFSETS, number>>
  /** The OS user of a plugin, made if need be. The same name has the same uid for ever, also after its removal. */
  allocateUser(name: PluginName): Promise<PluginUser>
  /** A number for one `cordon run`: recorded so that nobody gets it again, without a passwd entry. */
  allocateEphemeral(): Promise<{ readonly uid: number; readonly gid: number }>
  /** Take the passwd and group entries away again. The records stay: files may still carry the numbers. */
  removeUsers(names: readonly PluginName[]): Promise<void>
}

/**
 * @param range operator's, from cordon.yaml; gid = uid throughout
 * @throws CordonError USERS_RANGE
 */
export function createUsers(stateDir: string, range: { readonly first: number; readonly count: number }): Users {
  const end = range.first + range.count
  if (!Number.isSafeInteger(range.first) || !Number.isSafeInteger(range.count) || range.first < 1000 || range.count <= OWN_UIDS || end - 1 > MAX_UID) {
    throw new CordonError('USERS_RANGE', `uids ${range.first}+${range.count}: expected more than ${OWN_UIDS} numbers between 1000 and ${MAX_UID}`)
  }
  const ledgerPath = join(stateDir, 'uids.jsonl')
  let queue: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = queue.then(work)
    queue = done.catch(() => undefined) // the caller of `work` gets the error; the next in line does not
    return done
  }

  async function claim(name: PluginName | null): Promise<number> {
    let ledger = await readLedger(ledgerPath)
    for (let race = 0; race < MAX_RACES; race++) {
      const known = name === null ? undefined : ledger.byName.get(name)
      if (known !== undefined) return inRange(known.uid, name)
      const uid = next(ledger)
      await refuseForeign(uid, name === null ? null : userNameOf(name, range.first))
      const outcome = await appendRecord(ledgerPath, uid, name, ledger.remnant)
      if (outcome.won) return uid
      ledger = outcome.ledger
    }
    throw new CordonError('USERS_CORRUPT', `uids.jsonl: lost the race for a number ${MAX_RACES} times`)
  }

  function next(ledger: Ledger): number {
    const uid = Math.max(ledger.highest + 1, range.first + OWN_UIDS)
    if (uid >= end) throw new CordonError('USERS_EXHAUSTED', `all ${range.count} numbers from ${range.first} on were given out (the last recorded one is ${ledger.highest})`)
    return uid
  }

  function inRange(uid: number, name: PluginName | null): number {
    if (uid < range.first + OWN_UIDS || uid >= end) throw new CordonError('USERS_RANGE', `plugin "${name}" was recorded with uid ${uid}, which is not in ${range.first + OWN_UIDS}..${end - 1}`)
    return uid
  }

  return {
    own: { gateway: range.first + OWN_OFFSETS.gateway, listenHelper: range.first + OWN_OFFSETS.listenHelper, figuresChild: range.first + OWN_OFFSETS.figuresChild, probe: range.first + OWN_OFFSETS.probe, door: range.first + OWN_OFFSETS.door, doorHelper: range.first + OWN_OFFSETS.doorHelper, exporter: range.first + OWN_OFFSETS.exporter, push: range.first + OWN_OFFSETS.push },
    allocateUser: (name) =>
      inTurn(async () => {
        const uid = await claim(name)
        const user = { uid, gid: uid, userName: userNameOf(name, range.first) }
        await ensureEntries(user, name)
        return user
      }),
    allocateEphemeral: () =>
      inTurn(async () => {
        const uid = await claim(null)
        return { uid, gid: uid }
      }),
    removeUsers: (names) =>
      inTurn(async () => {
        const ledger = await readLedger(ledgerPath)
        for (const name of names) {
          const known = ledger.byName.get(name)
          if (known !== undefined) await removeEntries({ uid: known.uid, gid: known.uid, userName: userNameOf(name, range.first) })
        }
      }),
  }
}

/**
 * `cordon-p-` + 13 characters + `-` + 8 of a hash: 31, the longest that systemd takes. The full name stands in GECOS.
 * @param first of the range: two hosts on one machine may each have a plugin of the same name, and their ranges differ
 */
export function userNameOf(name: PluginName, first: number): string {
  const hash = createHash('sha256').update(first === DEFAULT_FIRST_UID ? name : `${first}:${name}`).digest('hex').slice(0, 8)
  return `cordon-p-${name.slice(0, 13)}-${hash}`
}

/** Before a number is recorded: it must mean nothing on this host, or already be ours (a restored passwd, a lost state directory). */
async function refuseForeign(uid: number, expected: string | null): Promise<void> {
  const user = await entryOf('passwd', String(uid))
  if (user !== null && user.name !== expected) throw conflict(`uid ${uid} belongs to the user "${user.name}"`)
  const group = await entryOf('group', String(uid))
  if (group !== null && group.name !== expected) throw conflict(`gid ${uid} belongs to the group "${group.name}"`)
}

async function ensureEntries(user: PluginUser, name: PluginName): Promise<void> {
  await refuseForeign(user.uid, user.userName)
  const id = String(user.uid)
  const group = await entryOf('group', user.userName)
  if (group !== null && group.id !== user.gid) throw conflict(`the group "${user.userName}" has the gid ${group.id}, expected ${user.gid}`)
  if (group === null) await tool('/usr/sbin/groupadd', ['--system', '--gid', id, user.userName])
  const passwd = await entryOf('passwd', user.userName)
  if (passwd !== null && passwd.id !== user.uid) throw conflict(`the user "${user.userName}" has the uid ${passwd.id}, expected ${user.uid}`)
  if (passwd === null) {
    // --system: no ageing, no subordinate ids. --no-log-init: lastlog would grow to gigabytes (sparse) for such numbers.
    const look = ['--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', '--comment', `Cordon plugin ${name}`]
    await tool('/usr/sbin/useradd', ['--system', '--no-create-home', '--no-log-init', '--no-user-group', '--uid', id, '--gid', id, ...look, user.userName])
  }
}

async function removeEntries(user: PluginUser): Promise<void> {
  const passwd = await entryOf('passwd', user.userName)
  if (passwd !== null && passwd.id === user.uid) await tool('/usr/sbin/userdel', [user.userName])
  const group = await entryOf('group', user.userName) // userdel usually takes it along (USERGROUPS_ENAB)
  if (group !== null && group.id === user.gid) await tool('/usr/sbin/groupdel', [user.userName])
}

/** getent(1), so that entries from LDAP and the like count too. */
async function entryOf(database: 'passwd' | 'group', key: string): Promise<{ name: string; id: number } | null> {
  const result = await run('/usr/bin/getent', ['--', database, key])
  if (result.exitCode === 2) return null
  const [name, , id] = result.stdout.split('\n')[0]?.split(':') ?? []
  if (result.exitCode !== 0 || name === undefined || id === undefined || !/^\d{1,10}$/.test(id)) {
    throw new CordonError('USERS_TOOL', `getent ${database} ${key}: exit ${result.exitCode ?? 'by signal'}, ${printable(result.stderr)}`)
  }
  return { name: printable(name), id: Number(id) }
}

async function tool(program: string, args: readonly string[]): Promise<void> {
  const result = await run(program, args)
  if (result.exitCode !== 0) throw new CordonError('USERS_TOOL', `${[program, ...args].join(' ')}: exit ${result.exitCode ?? 'by signal'}, ${printable(result.stderr)}`)
}

function run(program: string, args: readonly string[]) {
  return execa(program, [...args], { env: { LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin' }, extendEnv: false, stdin: 'ignore', reject: false, timeout: TOOL_TIMEOUT_MS, maxBuffer: 64 * 1024 })
}

function conflict(found: string): CordonError<'USERS_CONFLICT'> {
  return new CordonError('USERS_CONFLICT', `${found}; Cordon needs it for a plugin of its own`)
}

import { chownSync, existsSync, mkdirSync, readdirSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { RunId } from '../base/ids.ts'
import { ETC_BINDS } from '../plan/mounts.ts'
import type { SandboxPlan } from '../plan/plan.ts'
import { unstageGrants } from './pin.ts'
import { runProgram } from './run-program.ts'

/** Directory of one run: config.json, the root directory, FIFOs, the socket tmpfs. Root-owned, 0700; gone when the run ends. */
export interface Bundle {
  readonly dir: string
  readonly rootPath: string
  readonly stdioDir: string
  readonly pidFile: string
  readonly logFile: string
}

export function bundlePaths(bundlesDir: string, runId: RunId): Bundle {
  const dir = `${bundlesDir}/${runId}`
  return { dir, rootPath: `${dir}/rootfs`, stdioDir: dir, pidFile: `${dir}/pid`, logFile: `${dir}/runtime.log` }
}

/** The directories of a run; what else its places need, a program makes (standing.ts). @param socketDir where it serves a socket; root's until it is assigned */
export function makeDirs(bundle: Bundle, socketDir: string | null): void {
  mkdirSync(bundle.dir, { recursive: true, mode: 0o700 })
  if (socketDir !== null) mkdirSync(socketDir, { mode: 0o700 })
}

/** Which of the shared read-only places below /etc this host has. */
export function etcBinds(): string[] {
  return ETC_BINDS.filter((path) => existsSync(path))
}

/**
 * The read-only root: every mount point made beforehand, no symlinked standard directory but the four of a merged /usr
 * (pointing inside), a curated /etc. Everything root-owned; nothing of it is writable for the plugin.
 * @param staged where grants of the policy were bound to, by destination
 */
export function makeRoot(plan: SandboxPlan, staged: ReadonlyMap<string, string>): void {
  const root = plan.rootPath
  mkdirSync(root, { recursive: true, mode: 0o755 })
  for (const name of ['bin', 'sbin', 'lib', 'lib64', 'lib32', 'libx32']) {
    if (existsSync(`/usr/${name}`)) symlinkSync(`usr/${name}`, `${root}/${name}`)
  }
  for (const dir of ['etc', 'proc', 'dev', 'sys', 'tmp', 'run', 'data', 'plugin', '.cordon', 'var', 'opt']) mkdirSync(`${root}/${dir}`, { mode: 0o755 })
  symlinkSync('../tmp', `${root}/var/tmp`)
  symlinkSync('../run', `${root}/var/run`)
  for (const [name, text] of Object.entries(etcFiles(plan))) writeFileSync(`${root}/etc/${name}`, text, { mode: 0o644 })
  const zone = localTimeZone()
  if (zone !== null) symlinkSync(zone, `${root}/etc/localtime`)
  for (const mount of plan.mounts) {
    const at = `${root}${mount.destination}`
    if (mount.destination.startsWith('/dev/')) continue // below a tmpfs that the runtime mounts and fills
    if (mount.type === 'bind' && !statSync(staged.get(mount.destination) ?? mount.source).isDirectory()) {
      mkdirSync(dirname(at), { recursive: true, mode: 0o755 })
      writeFileSync(at, '', { mode: 0o444 })
    } else {
      mkdirSync(at, { recursive: true, mode: 0o755 })
    }
  }
}

/** The host's time zone as a link into /usr, where the same file is inside. */
function localTimeZone(): string | null {
  try {
    const target = readlinkSync('/etc/localtime')
    return target.startsWith('/usr/share/zoneinfo/') ? target : null
  } catch {
    return null // no link, no zone: UTC
  }
}

function etcFiles(plan: SandboxPlan): Record<string, string> {
  const { uid, gid } = plan.user
  return {
    passwd: `root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nplugin:x:${uid}:${gid}:${plan.subject}:/data:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n`,
    group: `root:x:0:\nplugin:x:${gid}:\nnogroup:x:65534:\n`,
    hostname: `${plan.hostname}\n`,
    hosts: `127.0.0.1 localhost ${plan.hostname}\n::1 localhost\n`,
    // An address of the sealed network. Without a door nothing answers, at once; a door that is held up for seconds still shall.
    'resolv.conf': `nameserver 198.18.0.1\noptions timeout:1 attempts:${plan.listeners === null ? 1 : 5}\n`,
    'nsswitch.conf': 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n',
  }
}

/** config.json. Not synced: it dies with the run, and the runtime reads it through the same page cache. */
export function writeConfig(bundle: Bundle, spec: object): void {
  writeFileSync(`${bundle.dir}/config.json`, JSON.stringify(spec), { mode: 0o600, flag: 'wx' })
}

/** Take everything of a run away again. Safe to call twice. */
export async function removePlaces(bundle: Bundle, socketDir: string | null): Promise<void> {
  const stage = `${bundle.dir}/stage`
  if (existsSync(stage)) await unstageGrants(stage, readdirSync(stage).length)
  if (socketDir !== null) {
    await runProgram('/usr/bin/umount', ['--lazy', '--quiet', socketDir]).catch(() => '') // not mounted when the start failed early
    rmSync(socketDir, { recursive: true, force: true })
  }
  rmSync(bundle.dir, { recursive: true, force: true })
}

/** A plugin's data directory: 0700, its own, below a root-owned parent, so that only the plugin can name what is in it. */
export function makeDataDir(path: string, uid: number): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  chownSync(path, uid, uid)
}

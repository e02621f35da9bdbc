import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { SeccompProfile } from '../../src/plan/plan.ts'

export const RUNC = '/usr/sbin/runc'
export const NODE = resolve(`node_modules/node-linux-${process.arch}/bin/node`)
export const BUN = resolve(process.arch === 'x64' ? 'node_modules/@oven/bun-linux-x64-baseline/bin/bun' : 'node_modules/@oven/bun-linux-aarch64/bin/bun')
const HOSTILE = resolve('deploy/samples/hostile')
const UID = 65534
const RUN_LIMIT_MS = 200_000
const OUTPUT_LIMIT_BYTES = 8 << 20

export interface Ran {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * One program under runc as an unprivileged user in fresh namespaces. Deliberately not Cordon's own plan: everything but
 * `seccomp` is the same with and without the filter, so a difference is the filter's.
 * @param seccomp null: the control, no filter at all
 * @param argv inside: /usr of this machine, /opt/node, /opt/bun, /plugin/hostile, writable /data and /tmp
 */
export async function runUnderRunc(seccomp: SeccompProfile | null, argv: readonly string[]): Promise<Ran> {
  const bundle = await mkdtemp(join(tmpdir(), 'seccomp-test-'))
  const id = `cordon-seccomp-${randomBytes(6).toString('hex')}`
  try {
    await makeRoot(bundle)
    await writeFile(join(bundle, 'config.json'), JSON.stringify(config(bundle, id, seccomp, argv)))
    return await run([RUNC, '--root', join(bundle, 'state'), 'run', '--bundle', bundle, id])
  } finally {
    await rm(bundle, { recursive: true, force: true })
  }
}

async function makeRoot(bundle: string): Promise<void> {
  for (const name of ['usr', 'etc', 'proc', 'dev', 'tmp', 'data', 'opt', 'plugin']) await mkdir(join(bundle, 'root', name), { recursive: true })
  await chmod(join(bundle, 'root/tmp'), 0o1777) // runc 1.1.5 gives a tmpfs the mode of the directory below it, whatever `mode=` says
  for (const name of ['node', 'bun']) await writeFile(join(bundle, 'root/opt', name), '')
  await writeFile(join(bundle, 'root/plugin/hostile'), '')
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) await symlink(`usr/${name}`, join(bundle, 'root', name))
  await mkdir(join(bundle, 'data'))
  await chown(join(bundle, 'data'), UID, UID)
}

function config(bundle: string, id: string, seccomp: SeccompProfile | null, argv: readonly string[]): object {
  const bind = (source: string, destination: string, ...options: string[]): object => ({
    type: 'bind', source, destination, options: ['bind', 'nosuid', 'nodev', ...options],
  })
  const none = { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] }
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: UID, gid: UID },
      args: argv,
      env: ['PATH=/usr/bin', 'HOME=/tmp', 'CORDON_PROBE_CONTROL=1'],
      cwd: '/',
      capabilities: none,
      noNewPrivileges: true,
    },
    root: { path: 'root', readonly: true },
    mounts: [
      { type: 'proc', source: 'proc', destination: '/proc' },
      { type: 'tmpfs', source: 'tmpfs', destination: '/dev', options: ['nosuid', 'mode=755', 'size=64k'] },
      { type: 'tmpfs', source: 'tmpfs', destination: '/tmp', options: ['nosuid', 'nodev', 'mode=1777', 'size=64m'] },
      bind('/usr', '/usr', 'ro'),
      bind(NODE, '/opt/node', 'ro'),
      bind(BUN, '/opt/bun', 'ro'),
      bind(HOSTILE, '/plugin/hostile', 'ro'),
      bind(join(bundle, 'data'), '/data', 'rw'),
    ],
    linux: {
      cgroupsPath: `/${id}`,
      namespaces: ['pid', 'ipc', 'uts', 'mount', 'network'].map((type) => ({ type })),
      ...(seccomp === null ? {} : { seccomp }),
    },
  }
}

function run([file = '', ...args]: readonly string[]): Promise<Ran> {
  return new Promise((done) => {
    const child = execFile(file, args, { encoding: 'utf8', timeout: RUN_LIMIT_MS, maxBuffer: OUTPUT_LIMIT_BYTES }, (error, stdout, stderr) => {
      done({ status: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
    child.stdin?.end()
  })
}

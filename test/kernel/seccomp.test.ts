import { beforeAll, describe, expect, test } from 'vitest'
import { compileSeccomp } from '../../src/plan/seccomp.ts'
import { canRun } from './require.ts'
import { BUN, NODE, RUNC, runUnderRunc, type Ran } from './runc.ts'

const architecture = process.arch === 'x64' ? 'x86_64' : 'aarch64'
const PLUGIN = compileSeccomp(architecture, 'runc', 'plugin')
const GATEWAY = compileSeccomp(architecture, 'runc', 'gateway')

/** Attempt of deploy/samples/hostile, the filter's answer, and the kernel's answer to the same attempt without the filter. */
const REFUSALS: readonly (readonly [attempt: string, filtered: string, control: string])[] = [
  ['socket netlink raw default', 'EAFNOSUPPORT', 'OK'],
  ['socket netlink raw default bit32', 'EAFNOSUPPORT', 'OK'],
  ['socket packet raw default', 'EAFNOSUPPORT', 'EPERM'],
  ['socket packet dgram default bit32', 'EAFNOSUPPORT', 'EPERM'],
  ['socket inet raw icmp', 'ESOCKTNOSUPPORT', 'EPERM'],
  ['socket inet raw icmp bit32', 'ESOCKTNOSUPPORT', 'EPERM'],
  ['socket inet dgram udplite', 'EPROTONOSUPPORT', 'OK'],
  ['socketpair inet stream', 'EAFNOSUPPORT', 'EOPNOTSUPP'],
  ['socketpair inet stream bit32', 'EAFNOSUPPORT', 'EOPNOTSUPP'],
  ['ioctl TIOCSTI', 'EPERM', 'ENOTTY'],
  ['ioctl TIOCSTI bit32', 'EPERM', 'ENOTTY'],
  ['ioctl TIOCLINUX bit32', 'EPERM', 'ENOTTY'],
  ['ioctl TIOCSETD', 'EPERM', 'ENOTTY'],
  ['ioctl SETFLAGS no /data', 'EPERM', 'OK'],
  ['ioctl SETFLAGS bit32 /data', 'EPERM', 'OK'],
  ['setrlimit core', 'EPERM', 'OK'],
  ['setrlimit core bit32', 'EPERM', 'OK'],
  ['prlimit core', 'EPERM', 'OK'],
  ['prlimit core bit32', 'EPERM', 'OK'],
  ['clone3', 'ENOSYS', 'EINVAL'],
  ['ptrace', 'EPERM', 'OK'],
  ['keyctl', 'EPERM', 'OK'],
  ['add_key', 'EPERM', 'OK'],
  ['msgget', 'EPERM', 'OK'],
  ['mq_open', 'EPERM', 'OK'],
  ['name_to_handle_at', 'EPERM', 'OK'],
  ['personality 40000', 'ENOSYS', 'OK'],
  ['personality 40000 bit32', 'ENOSYS', 'OK'],
  ['seccomp-mode', 'FILTER', 'NONE'],
  ['call sync', 'EPERM', 'OK'],
  ['call process_vm_readv', 'EPERM', 'EINVAL'],
  ['call process_madvise', 'EPERM', 'EINVAL'],
  ['call mount_setattr', 'EPERM', 'EINVAL'],
  ['call open_tree', 'EPERM', 'EINVAL'],
  ['call fsconfig', 'EPERM', 'EINVAL'],
  ['call open_by_handle_at', 'EPERM', 'EFAULT'],
  ['call request_key', 'EPERM', 'EFAULT'],
  ['call settimeofday', 'EPERM', 'EFAULT'],
  ['call mq_notify', 'EPERM', 'EFAULT'],
  ['call io_setup', 'ENOSYS', 'EFAULT'],
]

/** The kernel may be built or set up without these; where it has them, the control must differ from the filter's answer. */
const DEPENDS_ON_THE_KERNEL: readonly (readonly [attempt: string, filtered: string])[] = [
  ['socket vsock stream default', 'EAFNOSUPPORT'],
  ['socket vsock stream default bit32', 'EAFNOSUPPORT'],
  ['socket inet stream mptcp', 'EPROTONOSUPPORT'],
  ['ioctl FSSETXATTR no /data', 'EPERM'],
  ['ioctl FSSETXATTR bit32 /data', 'EPERM'],
  ['unshare NEWUSER', 'EPERM'],
  ['clone NEWUSER', 'EPERM'],
  ['clone NEWUSER bit32', 'EPERM'],
  ['io_uring_setup', 'ENOSYS'],
  ['userfaultfd', 'EPERM'],
  ['perf_event_open', 'EPERM'],
  ['call bpf', 'EPERM'],
  ['call kcmp', 'EPERM'],
  ['call pidfd_getfd', 'EPERM'],
  ['call quotactl_fd', 'EPERM'],
]

/** Without capabilities the kernel says EPERM to these by itself: the filter is the second wall, and no test can tell them apart. */
const SAME_EITHER_WAY = [
  'mount /tmp', 'remount /usr', 'umount /proc', 'pivot_root', 'chroot', 'unshare NEWNS', 'unshare NEWNET', 'sethostname', 'clock_settime',
  'call fsopen', 'call move_mount', 'call reboot', 'call acct', 'call swapoff', 'call syslog', 'call vhangup',
]

/** What programs need and the same conditions must let through. */
const PERMITTED = [
  'socket unix stream', 'socket unix dgram', 'socket inet stream tcp', 'socket inet dgram udp', 'socket inet6 stream', 'socket inet6 dgram',
  'socketpair unix stream', 'socketpair unix seqpacket', 'ioctl FIONREAD', 'clone none', 'setrlimit nofile', 'prlimit nofile', 'prlimit-read',
  'personality 0', 'personality ffffffff', 'exec /usr/bin/true',
]

const attempts = [...REFUSALS.map(([line]) => line), ...DEPENDS_ON_THE_KERNEL.map(([line]) => line), ...SAME_EITHER_WAY, ...PERMITTED]

/** One container for many attempts: each is a process of its own. */
async function tryAll(seccomp: typeof PLUGIN | null): Promise<ReadonlyMap<string, string>> {
  const script = attempts.map((line) => `/plugin/hostile ${line}`).join('\n')
  const ran = await runUnderRunc(seccomp, ['/bin/sh', '-c', script])
  const lines = ran.stdout.trim().split('\n')
  expect(lines.length, `${ran.stdout}${ran.stderr}`).toBe(attempts.length)
  return new Map(lines.map((line, index) => [attempts[index] ?? '', readResult(line)]))
}

function readResult(line: string): string {
  const parsed: unknown = JSON.parse(line)
  return typeof parsed === 'object' && parsed !== null && 'result' in parsed ? String(parsed.result) : line
}

const python = (code: string): readonly string[] => ['/usr/bin/python3', '-c', code]
const ran = (stdout: string): Partial<Ran> => ({ status: 0, stdout, stderr: '' })

describe.skipIf(!canRun(RUNC, NODE, BUN, '/usr/bin/perl', '/usr/bin/python3'))('the system call filter under a real kernel', () => {
  let filtered: ReadonlyMap<string, string>
  let control: ReadonlyMap<string, string>
  beforeAll(async () => {
    control = await tryAll(null)
    filtered = await tryAll(PLUGIN)
  })

  test.each(REFUSALS)('%s: %s, and %s without the filter', (attempt, expected, without) => {
    expect([filtered.get(attempt), control.get(attempt)]).toEqual([expected, without])
  })

  test.each(DEPENDS_ON_THE_KERNEL)('%s: %s, and something else without the filter where the kernel has it', (attempt, expected) => {
    expect(filtered.get(attempt)).toBe(expected)
    const absent = ['ENOSYS', 'EAFNOSUPPORT', 'EPROTONOSUPPORT']
    if (!absent.includes(control.get(attempt) ?? '')) expect(control.get(attempt)).not.toBe(expected)
  })

  test.each(SAME_EITHER_WAY)('%s: EPERM, as from the kernel itself', (attempt) => {
    expect([filtered.get(attempt), control.get(attempt)]).toEqual(['EPERM', 'EPERM'])
  })

  test.each(PERMITTED)('%s is let through', (attempt) => {
    expect([filtered.get(attempt), control.get(attempt)]).toEqual(['OK', 'OK'])
  })

  test('the whole list of attempts finds this wall held with the filter, and broken without it', async () => {
    const verdicts = async (seccomp: typeof PLUGIN | null): Promise<string[]> => {
      const { status, stdout } = await runUnderRunc(seccomp, ['/plugin/hostile', '--all', '--json'])
      expect(status).toBe(1) // this container has no limits, no masked files and other walls are not up either
      const rows = stdout.trim().split('\n').map((line) => JSON.parse(line) as { wall?: string; verdict?: string; probe?: string; detail?: string })
      expect(rows.at(-1)).toMatchObject({ summary: true })
      return rows.filter((row) => row.wall === 'seccomp' && row.verdict !== 'held').map((row) => `${row.probe} ${row.detail} ${row.verdict}`)
    }
    expect((await verdicts(PLUGIN)).filter((row) => row.endsWith('BROKEN'))).toEqual([])
    expect((await verdicts(null)).filter((row) => row.endsWith('BROKEN')).length).toBeGreaterThan(20)
  })

  test.skipIf(architecture !== 'x86_64')('the 32-bit ABI answers without the filter, and kills the caller with it; x32 too', async () => {
    const door = async (verb: string, seccomp: typeof PLUGIN | null): Promise<string> => readResult((await runUnderRunc(seccomp, ['/plugin/hostile', verb])).stdout)
    expect(['OK', 'SIGSEGV']).toContain(await door('int80', null)) // SIGSEGV: a kernel without 32-bit emulation
    expect(await door('int80', PLUGIN)).toBe('SIGSYS')
    expect(['ENOSYS', 'OK']).toContain(await door('x32', null))
    expect(['ENOSYS', 'SIGSYS']).toContain(await door('x32', PLUGIN)) // libseccomp kills; a runtime may answer ENOSYS ahead of it
  })

  test('Python runs with threads, children, sqlite and asyncio', async () => {
    const code = `
import threading, subprocess, sqlite3, asyncio, multiprocessing, socket, tempfile
t = threading.Thread(target=lambda: None); t.start(); t.join()
assert subprocess.run(['/usr/bin/true']).returncode == 0
db = sqlite3.connect('/data/test.db'); db.execute('pragma journal_mode=wal'); db.execute('create table t(a)'); db.execute('insert into t values (1)'); db.commit(); db.close()
async def main():
    server = await asyncio.start_unix_server(lambda r, w: w.close(), '/tmp/python.sock')
    reader, writer = await asyncio.open_unix_connection('/tmp/python.sock'); assert await reader.read() == b''
    server.close()
asyncio.run(main())
p = multiprocessing.Process(target=lambda: None); p.start(); p.join(); assert p.exitcode == 0
tempfile.TemporaryFile().write(b'x')
print('fine')`
    expect(await runUnderRunc(PLUGIN, python(code))).toEqual(ran('fine\n'))
  })

  test('Node runs with workers, children, a server, watching and sqlite', async () => {
    const code = `
const { Worker } = require('node:worker_threads'), { execFileSync } = require('node:child_process'), { DatabaseSync } = require('node:sqlite')
const http = require('node:http'), fs = require('node:fs')
execFileSync('/usr/bin/true')
const db = new DatabaseSync('/data/node.db'); db.exec('pragma journal_mode=wal; create table t(a); insert into t values (1)'); db.close()
fs.watch('/tmp').close(); fs.cpSync('/usr/bin/true', '/tmp/true'); fs.fsyncSync(fs.openSync('/tmp/true', 'r+'))
const server = http.createServer((q, s) => s.end('fine')).listen('/tmp/node.sock', () => http.get({ socketPath: '/tmp/node.sock', path: '/' }, (reply) => {
  reply.on('data', (bytes) => new Worker('process.exit(0)', { eval: true }).on('exit', () => { console.log(String(bytes)); process.exit() }))
}))`
    expect(await runUnderRunc(PLUGIN, ['/opt/node', '--no-warnings', '-e', code])).toEqual(ran('fine\n'))
  })

  test('Bun runs with workers, children and a server', async () => {
    const code = `
const worker = new Worker(URL.createObjectURL(new Blob(['postMessage(1)'])))
worker.onmessage = async () => {
  if (Bun.spawnSync(['/usr/bin/true']).exitCode !== 0) throw new Error('child')
  const { Database } = await import('bun:sqlite'); new Database('/data/bun.db').exec('create table t(a)')
  Bun.serve({ unix: '/tmp/bun.sock', fetch: () => new Response('fine') })
  console.log(await (await fetch('http://plugin/', { unix: '/tmp/bun.sock' })).text()); process.exit()
}`
    expect(await runUnderRunc(PLUGIN, ['/opt/bun', '-e', code])).toEqual(ran('fine\n'))
  })

  test('Node says why it cannot list network interfaces', async () => {
    const code = 'try { os.networkInterfaces(); console.log("listed") } catch (error) { console.log(error.info.errno) }'
    expect((await runUnderRunc(PLUGIN, ['/opt/node', '-e', code])).stdout).toBe('97\n') // EAFNOSUPPORT
    expect((await runUnderRunc(null, ['/opt/node', '-e', code])).stdout).toBe('listed\n')
  })

  test('the gateway has threads but can start no process, and a plugin can', async () => {
    const code = `
const { Worker } = require('node:worker_threads'), { spawnSync } = require('node:child_process')
new Worker('process.exit(0)', { eval: true }).on('exit', (code) => console.log(code, spawnSync('/usr/bin/true').error?.code ?? 'started'))`
    expect(await runUnderRunc(GATEWAY, ['/opt/node', '-e', code])).toEqual(ran('0 EPERM\n'))
    expect(await runUnderRunc(PLUGIN, ['/opt/node', '-e', code])).toEqual(ran('0 started\n'))
    const fork = ['/usr/bin/perl', '-e', 'defined(my $p = fork) or print "$!\\n"; exit 0 if defined $p && !$p; print "forked\\n" if $p']
    expect((await runUnderRunc(GATEWAY, fork)).stdout).toBe('Operation not permitted\n')
    expect((await runUnderRunc(PLUGIN, fork)).stdout).toBe('forked\n')
  })

  test('the gateway starts through setpriv and a gate that end in exec', async () => {
    const argv = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '/bin/sh', '-c', 'exec "$@"', 'gate', '/opt/node', '-p', '1 + 1']
    expect(await runUnderRunc(GATEWAY, argv)).toEqual(ran('2\n'))
  })
})

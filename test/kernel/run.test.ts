import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Receiver } from './receiver.ts'
import { canRun } from './require.ts'
import { RUNC } from './runc.ts'
import { collect, CORDON, eventually, WalledHost } from './walled.ts'

const NOBODY = 65534

/**
 * For each wall: an attempt of deploy/samples/hostile, what it meets behind `cordon run`, and what the same attempt meets
 * outside as an ordinary user or as root, which shows that it works where there is no wall.
 */
type Row = readonly [wall: string, attempt: string, behind: string, outside: string, as?: 'root']
const rows = (files: string, pid: number): readonly Row[] => [
  ['user', `read-file ${files}/granted/private`, 'EACCES', 'OK'],
  ['user', 'identity', 'UNPRIVILEGED', 'ROOT', 'root'],
  ['user', 'setuid-binary', 'UNPRIVILEGED', 'ROOT'],
  ['mounts', `read-file ${files}/outside`, 'ENOENT', 'OK'],
  ['mounts', `list-dir ${files}`, 'OK', 'OK'], // the places of its grants, and nothing else
  ['mounts', `write-file ${files}/granted`, 'EROFS', 'OK'],
  ['mounts', `exec ${files}/granted/program`, 'EACCES', 'OK'],
  ['mounts', 'open-write /proc/sys/kernel/core_pattern', 'EACCES', 'OK', 'root'],
  ['mounts', 'writable-mounts', 'EXPECTED', 'UNEXPECTED', 'root'],
  ['mounts', 'chroot', 'EPERM', 'OK', 'root'],
  ['mounts', 'mknod /tmp', 'EPERM', 'OK', 'root'],
  ['mounts', 'unshare NEWNS', 'EPERM', 'OK', 'root'],
  ['processes', `kill-pid ${pid}`, 'ESRCH', 'OK'],
  ['processes', `proc-root ${pid}`, 'ENOENT', 'OK'],
  ['processes', `proc-environ ${pid}`, 'ENOENT', 'OK'],
  ['processes', 'count-processes', 'OWN-ONLY', 'FOREIGN'],
  ['processes', 'shared-memory', 'OWN-ONLY', 'FOREIGN'],
  ['processes', 'sethostname', 'EPERM', 'OK', 'root'],
  ['processes', 'cgroup-write', 'EACCES', 'OK', 'root'],
  ['privilege', 'capabilities', 'NONE', 'SOME', 'root'],
  ['privilege', 'no-new-privs', 'SET', 'UNSET'],
  ['privilege', 'setuid', 'EPERM', 'OK', 'root'],
  ['privilege', 'setgid', 'EPERM', 'OK', 'root'],
  ['privilege', 'setgroups', 'EPERM', 'OK', 'root'],
  ['privilege', 'core-limit', 'ONE', 'OTHER'],
  ['privilege', 'prlimit core', 'EPERM', 'OK'],
  ['privilege', 'keyctl', 'EPERM', 'OK'],
  ['privilege', 'mq_open', 'EPERM', 'OK'],
  ['seccomp', 'seccomp-mode', 'FILTER', 'NONE'],
  ['seccomp', 'ptrace', 'EPERM', 'OK'],
  ['seccomp', 'clone3', 'ENOSYS', 'EINVAL'],
  ['seccomp', 'personality 40000', 'ENOSYS', 'OK'],
  ['seccomp', 'socket netlink raw default', 'EAFNOSUPPORT', 'OK'],
  ['seccomp', 'socket netlink raw default bit32', 'EAFNOSUPPORT', 'OK'],
  ['limits', 'fork-until-fail 80', 'EAGAIN', 'OK'],
  ['limits', 'open-until-fail 1100', 'EMFILE', 'OK', 'root'],
  ['limits', 'fill-dir /tmp 20000000', 'ENOSPC', 'OK'],
  ['limits', 'fill-dir /dev/shm 20000000', 'ENOSPC', 'OK'],
  ['network', 'interfaces', 'LOOPBACK-ONLY', 'OTHERS'],
  ['network', `abstract-connect /cordon-walls-${process.pid}`, 'ECONNREFUSED', 'OK'],
]

describe.skipIf(!canRun(RUNC, '/usr/bin/perl', '/usr/bin/python3', '/usr/bin/setpriv', '/usr/bin/script'))('cordon run', () => {
  let host: WalledHost
  let sleeper: ChildProcess
  let abstract: ChildProcess
  let segment = ''
  beforeAll(async () => {
    host = new WalledHost(1881503000)
    for (const name of ['outside', 'granted.txt']) writeFileSync(`${host.files}/${name}`, `${name}\n`)
    chmodSync(`${host.files}/granted.txt`, 0o666)
    mkdirSync(`${host.files}/granted`)
    chmodSync(`${host.files}/granted`, 0o777)
    writeFileSync(`${host.files}/granted/private`, 'of somebody else\n', { mode: 0o600 })
    chownSync(`${host.files}/granted/private`, NOBODY, NOBODY)
    writeFileSync(`${host.files}/granted/program`, '#!/bin/sh\nexit 0\n', { mode: 0o755 })
    const asNobody = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', '--']
    sleeper = spawn('/usr/bin/setpriv', [...asNobody, '/bin/sleep', '600'], { stdio: 'ignore' })
    abstract = spawn('/usr/bin/perl', ['-MSocket', '-e', `$|=1; socket(S,AF_UNIX,SOCK_STREAM,0); bind(S,pack_sockaddr_un("\\0/cordon-walls-${process.pid}")) or die; listen(S,9); print "x"; sleep 600`], { stdio: ['ignore', 'pipe', 'inherit'] })
    if (abstract.stdout !== null) await once(abstract.stdout, 'data')
    segment = /\d+/.exec(execFileSync('/usr/bin/ipcmk', ['-M', '4096'], { encoding: 'utf8' }))?.[0] ?? ''
    await eventually(() => readFileSync(`/proc/${sleeper.pid}/comm`, 'utf8'), (comm) => comm === 'sleep\n')
  })
  afterAll(() => {
    sleeper.kill('SIGKILL')
    abstract.kill('SIGKILL')
    execFileSync('/usr/bin/ipcrm', ['-m', segment])
    host.remove()
  })
  afterEach(() => {
    expect(host.leftovers()).toEqual([])
  })

  test('each wall answers with exactly its errno, and the same attempt succeeds without the wall', async () => {
    const table = rows(host.files, sleeper.pid ?? 0)
    const behind = await host.attempts(table.map(([, attempt]) => attempt), ['--memory', '64M', '--read', `${host.files}/granted`])
    const asUser = await host.control(table.map(([, attempt, , , as]) => (as === undefined ? attempt : 'identity')))
    const asRoot = await host.control(table.map(([, attempt, , , as]) => (as === 'root' ? attempt : 'identity')), 0)
    const found = table.map(([wall, attempt, , , as], i) => `${wall}: ${attempt}: ${behind[i]}, outside ${(as === 'root' ? asRoot : asUser)[i]}`)
    expect(found).toEqual(table.map(([wall, attempt, inside, outside]) => `${wall}: ${attempt}: ${inside}, outside ${outside}`))
  })

  test('every attempt of the hostile sample is held', async () => {
    const { stdout, status, stderr } = await host.run([`${host.files}/hostile`, '--all', '--json'])
    const lines = String(stdout).trim().split('\n').map((line) => JSON.parse(line) as { verdict?: string; held?: number })
    expect(lines.filter((line) => line.verdict === 'BROKEN')).toEqual([])
    expect(lines.at(-1), stderr).toMatchObject({ summary: true, broken: 0 })
    expect(lines.at(-1)?.held).toBeGreaterThan(200)
    expect(status).toBe(0)
  })

  describe('on the network', () => {
        const [HERE, THERE] = ['10.213.7.1', '10.213.7.2']
    let elsewhere: Receiver
    let onHost: Receiver
    beforeAll(async () => {
      onHost = await Receiver.start()
      elsewhere = await Receiver.start(onHost.port, ['/usr/bin/unshare', '--net'])
      const inside = (...words: string[]): Buffer => execFileSync('/usr/bin/nsenter', ['-t', String(elsewhere.pid), '-n', 'ip', ...words])
      execFileSync('ip', ['link', 'add', 'cordon-w0', 'type', 'veth', 'peer', 'name', 'cordon-w1', 'netns', String(elsewhere.pid)])
      execFileSync('ip', ['addr', 'add', `${HERE}/30`, 'dev', 'cordon-w0'])
      execFileSync('ip', ['link', 'set', 'cordon-w0', 'up'])
      inside('addr', 'add', `${THERE}/30`, 'dev', 'cordon-w1')
      inside('link', 'set', 'cordon-w1', 'up')
      inside('link', 'set', 'lo', 'up')
    })
    afterAll(async () => {
      await elsewhere.stop()
      await onHost.stop() // the pair of links went with the namespace
    })

    test('no packet of it reaches a listener or a sniffer, on the host or in another namespace', async () => {
      const own = Object.values(networkInterfaces()).flat().filter((one) => one !== undefined && !one.internal && !one.address.startsWith('fe80')).map((one) => one?.address ?? '')
      const targets = ['127.0.0.1', '::1', HERE, THERE, ...own]
      const attempts = targets.flatMap((target) => [`tcp-connect ${target} ${onHost.port}`, `udp-send ${target} ${onHost.port}`])
      const behind = await host.attempts(attempts)
      expect(behind.filter((result) => result === 'OK')).toEqual([])
      expect([await onHost.received(), await elsewhere.received()]).toEqual([[], []])
      expect(new Set(await host.control(attempts))).toEqual(new Set(['OK']))
      expect([await onHost.received(), await elsewhere.received()]).toEqual([['connection', 'datagram', 'packet'], ['connection', 'datagram', 'packet']])
    })

    test('what it tried is on record, by destination', async () => {
      const { records } = await host.sh(`${host.hostile} tcp-connect 192.0.2.7 443; ${host.hostile} udp-send 2001:db8::7 53`)
      const attempts = records.filter(({ type }) => type === 'egress.attempted').flatMap(({ data }) => data['attempts'] as { destination: string; count: number }[])
      expect(attempts.map((one) => one.destination).sort()).toEqual(['tcp 192.0.2.7:443', 'udp [2001:db8::7]:53'])
    })
  })

  describe('limits', () => {
    test('above its memory limit the whole group is killed, children too, and the record says why', async () => {
      const start = Date.now()
      const line = `/bin/sleep 600 & ${host.hostile} allocate 200; /bin/sleep 600; echo survived`
      const { status, stdout, records } = await host.sh(line, { options: ['--memory', '64M'] })
      expect(Date.now() - start).toBeLessThan(150_000) // and not the ten minutes of the others
      expect(status).toBe(137)
      expect(String(stdout)).not.toContain('survived')
      expect(records.find(({ type }) => type === 'run.ended')?.data['oom_kills']).toBeGreaterThan(0)
    })

    test('with room for it the same allocation succeeds', async () => {
      expect(await host.attempts(['allocate 200'], ['--memory', '512M'])).toEqual(['OK'])
    })

    test('CPU is throttled to the quota, and the kernel counts it; with a larger quota it hardly is', async () => {
      const burn = async (cpu: string): Promise<{ percent: number; throttled: number }> => {
        const { stdout } = await host.sh(`${host.hostile} burn; cat /sys/fs/cgroup/cpu/cpu.stat`, { options: ['--cpu', cpu] })
        return { percent: Number(/"value":(\d+)/.exec(String(stdout))?.[1]), throttled: Number(/nr_throttled (\d+)/.exec(String(stdout))?.[1]) }
      }
      // Where this machine is held up itself, what it ran meanwhile counts at once: of some tries one is held to the quota, and without it none would be.
      let small = await burn('20%')
      for (let tries = 0; tries < 5 && small.percent > 30; tries++) small = await burn('20%')
      expect(small.percent).toBeLessThanOrEqual(30)
      expect(small.throttled).toBeGreaterThan(3)
      expect((await burn('200%')).throttled).toBeLessThan(small.throttled / 2)
    })

    test('TasksMax is what --tasks says', async () => {
      const { stdout } = await host.sh(`${host.hostile} fork-until-fail 50`, { options: ['--tasks', '12'] })
      const { result, value } = JSON.parse(String(stdout)) as { result: string; value: number }
      expect(result).toBe('EAGAIN')
      expect(value).toBeLessThan(12)
    })
  })

  test.skipIf(!onDisk('/var/lib'))('a disk is read no faster than IOReadBandwidthMax', async () => {
    const big = `${host.files}/big`
    writeFileSync(big, randomBytes(3 << 20))
    const readMs = async (limits: string): Promise<number> => {
      writeFileSync(`${host.dir}/run.yaml`, `plugin: run\nexecutable: { path: /usr/bin/true }\nlimits: { ${limits} }\nread: [{ path: ${big}, reason: large }]\n`)
      execFileSync('dd', [`of=${big}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], { stdio: 'ignore' }) // out of the page cache
      const { stdout } = await host.sh(`a=$(date +%s%N); cat ${big} >/dev/null; b=$(date +%s%N); echo $(((b - a) / 1000000))`, { options: ['--policy', `${host.dir}/run.yaml`] })
      return Number(stdout)
    }
    expect(await readMs('IOReadBandwidthMax: 1M')).toBeGreaterThan(2000)
    let free = Infinity // the control, which a busy disk may hold up
    for (let tries = 0; tries < 5 && free >= 2000; tries++) free = await readMs('IOReadBandwidthMax: 1G')
    expect(free).toBeLessThan(2000)
  })

  describe('stdio', () => {
    test('a mebibyte of binary passes through unchanged, in both directions', async () => {
      const input = randomBytes(1 << 20)
      const { status, stdout } = await host.run(['/bin/cat'], { input })
      expect(createHash('sha256').update(stdout).digest('hex')).toBe(createHash('sha256').update(input).digest('hex'))
      expect(status).toBe(0)
    })

    test('stdout, stderr and the exit status are those of the program', async () => {
      expect(await host.sh('echo out; echo err >&2; exit 7')).toMatchObject({ status: 7, stdout: Buffer.from('out\n'), stderr: 'err\n' })
      expect(await host.sh('kill -TERM $$')).toMatchObject({ status: 143 })
    })

    test('no descriptor of the caller enters', async () => {
      const file = openSync('/etc/passwd', 'r')
      const directory = openSync('/', 'r')
      try {
        const { stdout } = await host.sh(`${host.hostile} descriptors; ls /proc/self/fd | wc -l`, { stdio: ['ignore', 'pipe', 'pipe', file, directory, directory] })
        expect(String(stdout)).toContain('"PIPES-ONLY"')
      } finally {
        closeSync(file)
        closeSync(directory)
      }
    })

    test('a directory as stdin does not enter', async () => {
      const directory = openSync(host.files, 'r')
      try {
        const { stdout, status } = await host.sh(`${host.hostile} descriptors; cat; ls /proc/self/fd/0/ 2>&1 | head -1`, { stdio: [directory, 'pipe', 'pipe'] })
        expect(String(stdout)).toContain('"PIPES-ONLY"')
        expect(String(stdout)).not.toContain('outside')
        expect(status).toBe(0)
      } finally {
        closeSync(directory)
      }
    })

    test("the caller's terminal cannot be reached", async () => {
      const attempt = `echo GOT-IT 2>/dev/null >/dev/tty && echo reached || echo refused; ${host.hostile} descriptors`
      const inTerminal = (words: string): Promise<{ stdout: Buffer }> => collect(spawn('/usr/bin/script', ['-qec', words, '/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] }))
      const behind = String((await inTerminal(`${CORDON} --config ${host.config} run --read ${host.files}/hostile -- /bin/sh -c '${attempt}'`)).stdout)
      expect([behind.includes('GOT-IT'), behind.includes('refused'), behind.includes('"PIPES-ONLY"')]).toEqual([false, true, true])
      expect(String((await inTerminal(`/bin/sh -c '${attempt}'`)).stdout)).toContain('GOT-IT\r\nreached')
    })

    test('the environment is ours, and what --env adds', async () => {
      const { stdout } = await host.run(['/usr/bin/env'], { env: { PATH: '/usr/bin:/bin', SECRET: 'of the caller', LD_PRELOAD: '' }, options: ['--env', 'NAME=value'] })
      expect(String(stdout).trim().split('\n').sort()).toEqual([
        'HOME=/data', 'LANG=C.UTF-8', 'NAME=value', 'PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', 'TMPDIR=/tmp',
      ])
    })
  })

  test('a strict umask of the caller changes nothing behind the walls', async () => {
    const { stdout, stderr } = await collect(spawn('/bin/sh', ['-c', 'umask 077; exec "$@"', 'sh', CORDON, '--config', host.config, 'run', '--', '/bin/cat', '/etc/hostname']))
    expect([String(stdout), stderr]).toEqual(['run\n', ''])
  })

  describe('--read', () => {
    test('a granted file can be read and not written, and its neighbours do not exist', async () => {
      const path = `${host.files}/granted.txt`
      expect(await host.attempts([`read-file ${path}`, `open-write ${path}`, `read-file ${host.files}/outside`], ['--read', path])).toEqual(['OK', 'EROFS', 'ENOENT'])
    })

    test('beside --policy no other option is left unheard, and a wrong one is told in one line', async () => {
      const told = async (...options: string[]): Promise<string> => {
        const { status, stderr } = await host.sh('echo ran', { options })
        return `${status} ${stderr.split('\n')[0]}`
      }
      expect(await told('--policy', '/nonexistent', '--env', 'A=1')).toMatch(/^64 error: USAGE_BAD_OPTION run: --policy stands alone/)
      expect(await told('--tasks', '-3')).toBe("64 error: USAGE_BAD_OPTION run: Option '--tasks' argument is ambiguous")
      expect(await told('--no\u001bsuch')).toBe("64 error: USAGE_BAD_OPTION run: Unknown option '--no\\x1bsuch'")
    })

    test('what a policy may not say, an option may not either: nothing is started', async () => {
      const told = async (...options: string[]): Promise<string> => {
        const { status, stdout, stderr } = await host.sh('echo ran', { options })
        return `${status} ${String(stdout)}${/POLICY_\w+/.exec(stderr)?.[0] ?? stderr}`
      }
      for (const path of ['/', '/run', '/proc']) expect([path, await told('--read', path)]).toEqual([path, '65 POLICY_UNSAFE_PATH'])
      expect(await told('--cpu', '0%')).toBe('65 POLICY_OUT_OF_BOUNDS')
      expect(await told('--tasks', '0')).toBe('65 POLICY_OUT_OF_BOUNDS')
    })

    test('a path with a symlink in it is refused, wherever it points', async () => {
      symlinkSync('granted', `${host.files}/link`)
      for (const path of ['link', 'link/program']) {
        const { status, stderr } = await host.sh('echo ran', { options: ['--read', `${host.files}/${path}`] })
        expect(status).toBe(78)
        expect(stderr).toContain('LAUNCH_PATH')
      }
    })

    test('a component that its owner swaps meanwhile never leads elsewhere', async () => {
      const theirs = `${host.files}/theirs`
      for (const [dir, text] of [[`${theirs}/d/sub`, 'theirs'], [`${host.files}/secret/sub`, 'secret']] as const) {
        mkdirSync(dir, { recursive: true })
        writeFileSync(`${dir}/x`, text)
      }
      chownSync(theirs, NOBODY, NOBODY)
      symlinkSync('../secret', `${theirs}/other`)
      // renameat2 with RENAME_EXCHANGE: at every moment there is something by that name.
      const number = process.arch === 'x64' ? 316 : 276
      const swap = `chdir "${theirs}"; my ($a, $b) = qw(d other); while (1) { syscall(${number}, -100, $a, -100, $b, 2) == 0 or die $!; select undef, undef, undef, 0.0007 }`
      const swapper = spawn('/usr/bin/setpriv', ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', '--', '/usr/bin/perl', '-e', swap], { stdio: 'ignore' })
      try {
        const named = `${theirs}/d/sub`
        const naive = await eventually(() => new Set([readFileSync(`${named}/x`, 'utf8'), ...naiveReads(`${named}/x`)]), (seen) => seen.size === 2)
        expect([...naive].sort()).toEqual(['secret', 'theirs'])
        const outcomes: string[] = []
        for (let i = 0; i < 8; i++) {
          const { status, stdout, stderr } = await host.sh(`cat ${named}/x`, { options: ['--read', named] })
          outcomes.push(status === 0 ? String(stdout) : /LAUNCH_PATH|POLICY_\w+/.exec(stderr)?.[0] ?? `${status} ${stderr}`)
        }
        expect(outcomes.filter((one) => one !== 'theirs' && one !== 'LAUNCH_PATH')).toEqual([])
      } finally {
        const ended = once(swapper, 'exit')
        swapper.kill('SIGKILL')
        await ended
      }
    })
  })

  test('a program under runtime: runs where root alone can change it, and its directory and those above it', async () => {
    const [tree, file] = [`${host.files}/runtimes/one`, `${host.dir}/run.yaml`]
    mkdirSync(tree, { recursive: true })
    writeFileSync(`${tree}/tool`, '#!/bin/sh\necho ran\n', { mode: 0o755 })
    writeFileSync(file, `plugin: run\nexecutable: { path: /usr/bin/true }\nruntime: [{ path: ${tree}, reason: a test }]\n`)
    const told = async (): Promise<string> => {
      const { status, stdout, stderr } = await host.run([`${tree}/tool`], { options: ['--policy', file] })
      return `${status} ${String(stdout)}${/LAUNCH_\w+/.exec(stderr)?.[0] ?? stderr}`
    }
    expect(await told()).toBe('0 ran\n')
    for (const [path, spoil] of [[tree, () => chownSync(tree, NOBODY, 0)], [`${host.files}/runtimes`, () => chmodSync(`${host.files}/runtimes`, 0o775)]] as const) {
      spoil()
      expect([path, await told()]).toEqual([path, '78 LAUNCH_PATH'])
      chownSync(path, 0, 0)
      chmodSync(path, 0o755)
    }
    expect(await told()).toBe('0 ran\n')
  })

  test('a program that is not there is said to be that', async () => {
    const { status, stderr } = await host.run(['/nonexistent/x'])
    expect([status, stderr]).toEqual([66, expect.stringMatching(/^error: STORE_ABSENT .*\/nonexistent\/x/)])
  })

  describe('its end', () => {
    const started = async (line: string): Promise<{ child: ChildProcess; out: () => string; ended: Promise<unknown[]> }> => {
      const child = host.start(['/bin/sh', '-c', line])
      let out = ''
      child.stdout?.on('data', (chunk: Buffer) => { out += String(chunk) })
      const ended = once(child, 'exit')
      await eventually(() => out, (text) => text.includes('ready\n'))
      return { child, out: () => out, ended }
    }

    test.each(['INT', 'TERM'] as const)('SIG%s reaches the program, whose answer is the exit status', async (name) => {
      const { child, out, ended } = await started(`trap 'echo asked; exit 3' ${name}; echo ready; /bin/sleep 600 & wait`)
      child.kill(`SIG${name}`)
      expect(await ended).toEqual([3, null])
      expect(out()).toBe('ready\nasked\n')
    })

    test('a program that ignores the first signal is killed at the second', async () => {
      const { child, out, ended } = await started("trap 'echo no' TERM; echo ready; while :; do /bin/sleep 1; done")
      child.kill('SIGTERM')
      await eventually(out, (text) => text === 'ready\nno\n')
      await new Promise((next) => setTimeout(next, 1500))
      expect(child.exitCode).toBe(null)
      child.kill('SIGTERM')
      expect(await ended).toEqual([137, null])
    })

    test('whose reader leaves, it meets SIGPIPE as in any pipe; its end is on record and sealed', async () => {
      const before = new Set(host.runs())
      const { stdout, stderr } = await collect(spawn('/bin/bash', ['--norc', '-c', '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', 'bash', CORDON, '--config', host.config, 'run', '--', '/usr/bin/yes']))
      expect([String(stdout), stderr]).toEqual(['y\n141\n', ''])
      const records = host.runs().filter((run) => !before.has(run)).flatMap((run) => host.records(run))
      expect(records.slice(-2).map(({ type }) => type)).toEqual(['run.ended', 'seal'])
    })

    test.each([['stdout', 'echo a', 74], ['stderr', 'echo a >&2; sleep 1; echo b >&2; exit 5', 5]] as const)('what cannot be written to a full %s stops nothing, and is not taken for written', async (stream, line, status) => {
      const full = openSync('/dev/full', 'w')
      const ended = await host.sh(line, { stdio: ['ignore', stream === 'stdout' ? full : 'pipe', stream === 'stderr' ? full : 'pipe'] })
      closeSync(full)
      expect([ended.status, ended.stderr]).toEqual([status, stream === 'stderr' ? '' : expect.stringMatching(/^error: OUTPUT_LOST .*ENOSPC.*\nhint:/)])
    })

    test('a working directory that is gone and the NODE_OPTIONS of the caller change nothing', async () => {
      const { stdout, stderr } = await collect(spawn('/bin/sh', ['-c', 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', `${host.files}/gone`, CORDON, '--config', host.config, 'run', '--', '/bin/cat', '/etc/hostname'], { env: { PATH: '/usr/bin:/bin', NODE_OPTIONS: '--require=/nonexistent/x.js' } }))
      expect([String(stdout), stderr]).toEqual(['run\n', expect.not.stringContaining('error:')]) // a shell has its own word about it
    })

    test('kill -9 of cordon run ends everything behind the walls, and the next one takes away what it left', async () => {
      const { child, ended } = await started('(/bin/sleep 600 & /bin/sleep 600) & echo ready; /bin/sleep 600')
      await eventually(() => host.processes(), (pids) => pids.length > 4)
      child.kill('SIGKILL')
      await ended
      await eventually(() => host.processes(), (pids) => pids.length === 0)
      expect(await host.sh('true')).toMatchObject({ status: 0 })
    })

    test('kill -9 of the runtime ends everything, and nothing is left', async () => {
      const { child, ended } = await started('/bin/sleep 600 & echo ready; /bin/sleep 600')
      const runtime = childrenOf(child.pid ?? 0).find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'runc\n')
      process.kill(runtime ?? 0, 'SIGKILL')
      expect(await ended).toEqual([137, null])
    })
  })
})

/** Bandwidth is limited per disk: a directory of an overlay or a tmpfs lies on none. */
function onDisk(path: string): boolean {
  const { dev } = statSync(path)
  return existsSync(`/sys/dev/block/${(dev >> 8) & 0xfff}:${dev & 0xff}`)
}

function naiveReads(path: string): string[] {
  return Array.from({ length: 200 }, () => readFileSync(path, 'utf8'))
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ')).filter((word) => word !== '').map(Number)
}

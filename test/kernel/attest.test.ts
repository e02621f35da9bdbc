import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findInit } from '../../src/launcher/preflight.ts'
import { canRun } from './require.ts'
import { RUNC } from './runc.ts'
import { collect, WalledHost, type Ran } from './walled.ts'

/**
 * An OCI runtime that builds other walls than it was asked for: it edits config.json (`c`) or its own arguments (`argv`), then
 * becomes the real one. Each edit: what a reviewer would call it, the Python that makes it, what the record must name.
 */
const EDITS: readonly (readonly [promise: string, edit: string, named: string])[] = [
  ['no system call filter', "del linux['seccomp']", 'Seccomp'],
  ['one capability in the bounding set', "process['capabilities']['bounding'] = ['CAP_NET_RAW']", 'CapBnd'],
  ['all capability sets of one capability', "process['capabilities'] = {k: ['CAP_CHOWN'] for k in process['capabilities']}", 'CapEff'],
  ['no_new_privs left out', "process['noNewPrivileges'] = False", 'NoNewPrivs'],
  ['root as its user', "process['user']['uid'] = 0", 'Uid'],
  ['another uid', "process['user']['uid'] += 1; process['cwd'] = '/'", 'Uid'],
  ['another gid', "process['user']['gid'] += 1", 'Gid'],
  ['an additional group', "process['user']['additionalGids'] = [4]", 'Groups'],
  ['another umask', "process['user']['umask'] = 0", 'Umask'],
  ['an additional mount', "mounts.append(bind('/etc', '/opt', 'ro'))", 'other mounts'],
  ['a writable /usr', "mount('/usr')['options'].remove('ro')", 'mount /usr'],
  ['a mount without nosuid', "mount('/usr')['options'].remove('nosuid')", 'mount /usr'],
  ['a mount that is missing', "mounts.remove(mount('/etc/alternatives'))", 'mount /etc/alternatives'],
  ['another source of a mount', "mount('/etc/alternatives')['source'] = '/etc/ssl'", 'source of /etc/alternatives'],
  ['another file in the place of the init', "mount('/.cordon/init')['source'] = 'DIR/other-init'", 'source of /.cordon/init'],
  ['a larger /tmp', "size('/tmp', 1 << 30)", 'size of /tmp'],
  ['a /data of another user', "swap('/data', 'uid=', 'uid=0')", 'owner of /data'],
  ['a writable root', "c['root']['readonly'] = False", 'mount /'],
  ['no masked paths', "linux['maskedPaths'] = []", 'masked paths that can be seen'],
  ['one masked path less', "linux['maskedPaths'].remove('/proc/kallsyms')", 'masked paths that can be seen'],
  ['a writable /proc/sys', "linux['readonlyPaths'].remove('/proc/sys')", 'read-only paths that can be written'],
  ["the host's pid namespace", "drop('pid')", 'ns/pid'],
  ["the host's ipc namespace", "drop('ipc')", 'ns/ipc'],
  ["the host's uts namespace", "drop('uts'); del c['hostname']", 'ns/uts'],
  ["the host's cgroup namespace", "drop('cgroup')", 'ns/cgroup'],
  ["the host's network", "drop('network')", 'ns/net'],
  ['another network namespace', "drop('network'); linux['namespaces'].append({'type': 'network'})", 'ns/net'],
  ['a link more in its network', "network('ip link add cordon-x type veth')", 'links'],
  ['a route more in its network', "network('ip route add 203.0.113.0/24 dev lo')", 'routes to elsewhere'],
  ['no default route of its own', "network('ip route del local default dev lo')", 'default route'],
  ['a socket of somebody else in its network', "network('perl -MSocket -e \"socket(S,AF_INET,SOCK_STREAM,0);bind(S,pack_sockaddr_in(7,inet_aton(q(127.0.0.1))));listen(S,1);fork and exit;sleep 1 while -e q(' + path + ')\"')", 'sockets'],
  ['twice the memory', "resources['memory']['limit'] *= 2; resources['memory']['swap'] *= 2", 'memory.limit_in_bytes'],
  ['swap beside the memory', "resources['memory']['swap'] *= 2", 'memory.memsw.limit_in_bytes'],
  ['twice the CPU', "resources['cpu']['quota'] *= 2", 'cpu.cfs_quota_us'],
  ['a larger share of the CPU', "resources['cpu']['shares'] *= 2", 'cpu.shares'],
  ['a larger share of the CPU for its group', "open('/sys/fs/cgroup/cpu' + OWN_CGROUP + os.path.dirname(linux['cgroupsPath']) + '/cpu.shares', 'w').write('4096')", 'cpu.shares of its group'],
  ['one task more', "resources['pids']['limit'] += 1", 'pids.max'],
  ['another cgroup', "linux['cgroupsPath'] += '-other'", 'cgroup memory'],
  ['more open files', "rlimit('RLIMIT_NOFILE', 4096)", 'RLIMIT_NOFILE'],
  ['a core limit under which a piped helper runs', "rlimit('RLIMIT_CORE', 0)", 'RLIMIT_CORE'],
  ['another score for the OOM killer', "process['oomScoreAdj'] = 500", 'oom_score_adj'],
  ['an additional descriptor', "fd = os.open('/etc/passwd', 0); os.set_inheritable(fd, True); os.dup2(fd, 3); argv[argv.index('--preserve-fds') + 1] = '1'", 'open descriptors'],
  ['another argument', "process['args'].append('more')", 'arguments'],
  ['another variable', "process['env'].append('LD_PRELOAD=/tmp/x.so')", 'environment, too much'],
  ['a variable less', "process['env'] = [e for e in process['env'] if not e.startswith('HOME=')] + ['HOME=/']", 'environment, missing'],
  ['another working directory', "process['cwd'] = '/tmp'", 'working directory'],
]

const wrapper = (edit: string, dir: string): string => `#!/usr/bin/python3
import json, os, subprocess, sys
argv = sys.argv[1:]
if 'run' in argv:
    path = argv[argv.index('--bundle') + 1] + '/config.json'
    with open(path) as file: c = json.load(file)
    process, linux, mounts = c['process'], c['linux'], c['mounts']
    resources = linux['resources']
    OWN_CGROUP = next(l for l in open('/proc/self/cgroup') if ':cpu:' in l or ':cpu,' in l).strip().split(':', 2)[2].rstrip('/') + '/'
    def mount(at): return next(m for m in mounts if m['destination'] == at)
    def bind(source, at, *more): return {'destination': at, 'type': 'none', 'source': source, 'options': ['bind', 'nosuid', 'nodev', *more]}
    def swap(at, start, option): mount(at)['options'] = [option if o.startswith(start) else o for o in mount(at)['options']]
    def size(at, n): swap(at, 'size=', 'size=%d' % n)
    def drop(kind): linux['namespaces'] = [n for n in linux['namespaces'] if n['type'] != kind]
    def rlimit(kind, n): process['rlimits'] = [{'type': kind, 'soft': n, 'hard': n} if r['type'] == kind else r for r in process['rlimits']]
    def network(line):
        path = next(n for n in linux['namespaces'] if n['type'] == 'network')['path']
        subprocess.run(['/usr/bin/nsenter', '--net=' + path, '/bin/sh', '-c', line], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ${edit.replaceAll('DIR', dir)}
    with open(path, 'w') as file: json.dump(c, file)
os.execv('${RUNC}', ['runc', *argv])
`

describe.skipIf(!canRun(RUNC, '/usr/bin/python3', '/usr/bin/perl'))('a runtime that builds other walls than it was asked for', () => {
  let host: WalledHost
  let marker: Server
  let ran = 0
  beforeAll(async () => {
    host = new WalledHost(1881501000, (dir) => `{ kind: runc, path: ${dir}/runtime }`)
    // What the program does first reaches a socket of this test: the one trace that it can leave on the host.
    writeFileSync(`${host.dir}/run.yaml`, `plugin: run\nexecutable: { path: /usr/bin/perl }\nsockets: [{ path: ${host.files}/marker, reason: tells that it ran }]\n`)
    marker = createServer((socket) => {
      ran++
      socket.destroy()
    })
    await new Promise<void>((ready) => marker.listen(`${host.files}/marker`, ready))
    chmodSync(`${host.files}/marker`, 0o777)
    writeFileSync(`${host.dir}/other-init`, Buffer.concat([readFileSync(findInit() ?? ''), Buffer.of(0)]), { mode: 0o711 }) // does the same, is not the same
  })
  afterAll(() => {
    marker.close()
    host.remove()
  })

  async function under(edit: string): Promise<Ran> {
    writeFileSync(`${host.dir}/runtime`, wrapper(edit, host.dir), { mode: 0o755 })
    ran = 0
    const program = `use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, pack_sockaddr_un("${host.files}/marker")) or die $!; sysread S, $x, 1`
    const run = await host.run(['/usr/bin/perl', '-e', program], { options: ['--policy', `${host.dir}/run.yaml`] })
    return { ...run, records: run.records.filter(({ type }) => type !== 'seal' && !type.startsWith('log.')) } // what the log tells of itself
  }

  test('and the control: one that changes nothing starts the program', async () => {
    const { status, stderr, records } = await under('pass')
    expect({ status, stderr, ran, types: records.map((record) => record.type) }).toEqual({ status: 0, stderr: '', ran: 1, types: ['run.started', 'isolation.attested', 'run.ended'] })
    expect(host.leftovers()).toEqual([])
  })

  test.each(EDITS)('%s: the program never runs, and the record names it', async (_, edit, named) => {
    const { status, stderr, records } = await under(edit)
    expect(stderr).toContain('LAUNCH_ISOLATION')
    expect(status).toBe(70)
    expect(ran).toBe(0)
    expect(records.map((record) => record.type)).toEqual(['run.started', 'isolation.violated'])
    const differences = records[1]?.data['differences'] as { what: string; expected: string; found: string }[]
    expect(differences.map((one) => one.what)).toContain(named)
    expect(host.leftovers()).toEqual([])
  })
})

describe.skipIf(!canRun(RUNC))('walls that change while a program runs', () => {
  let host: WalledHost
  beforeAll(() => void (host = new WalledHost(1881504000)))
  afterAll(() => host.remove())

  test('a limit, a link or a route that somebody changes ends the run at the next sample, and a run that nobody touches goes on', async () => {
    const changes: readonly (readonly [seconds: string, change: (pid: number) => void, named: string | null])[] = [
      ['3601', (pid) => writeFileSync(`/sys/fs/cgroup/pids${cgroupOf(pid, 'pids')}/pids.max`, '4096'), 'pids.max'],
      ['3602', (pid) => inNetwork(pid, 'link', 'add', 'cordon-x', 'type', 'veth'), 'links'],
      ['3603', (pid) => inNetwork(pid, 'route', 'add', '203.0.113.0/24', 'dev', 'lo'), 'routes to elsewhere'],
      ['3604', (pid) => inNetwork(pid, 'route', 'del', 'local', 'default', 'dev', 'lo'), 'default route'],
      ['3605', () => undefined, null],
    ]
    const outcomes = await Promise.all(changes.map(async ([seconds, change, named]) => {
      const child = host.start(['/bin/sleep', seconds])
      const ended = collect(child)
      const pid = await host.pidOf('/bin/sleep', seconds)
      change(pid)
      if (named !== null) return { named, ...(await ended) }
      await new Promise((next) => setTimeout(next, 15_000)) // samples are 10 s apart
      child.kill('SIGTERM')
      return { named, ...(await ended) }
    }))
    expect(outcomes.map(({ named, status, stderr }) => ({ named, status, isolation: stderr.includes('LAUNCH_ISOLATION') && stderr.includes(named ?? '') }))).toEqual(
      changes.map(([, , named]) => (named === null ? { named, status: 143, isolation: false } : { named, status: 70, isolation: true })))
    const violated = host.runs().flatMap((run) => host.records(run)).filter(({ type }) => type === 'isolation.violated').flatMap(({ data }) => data['differences'] as { what: string }[])
    expect(violated.map((one) => one.what).sort()).toEqual(['default route', 'links', 'pids.max', 'routes to elsewhere'])
    expect(host.leftovers()).toEqual([])
  })
})

function cgroupOf(pid: number, controller: string): string {
  return new RegExp(`^\\d+:${controller}:(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? ''
}

function inNetwork(pid: number, ...words: readonly string[]): void {
  execFileSync('/usr/bin/nsenter', ['-t', String(pid), '-n', 'ip', ...words])
}

import { expect, test } from 'vitest'
import { DEFAULT_OWN_PLACES as OWN, judgePath, type PathUse } from '../../src/policy/paths.ts'

const verdict = (use: PathUse, path: string) => judgePath(use, path, OWN).verdict

test.each([
  '/', '/proc', '/proc/1/root', '/sys', '/sys/fs/cgroup', '/dev', '/dev/sda', '/run', '/run/secrets', '/var/run', '/var/run/x', '/tmp', '/tmp/x', '/var/tmp/x',
  '/etc', '/etc/shadow', '/etc/ssh/ssh_host_ed25519_key', '/etc/ssl', '/etc/ssl/private', '/etc/sudoers', '/etc/passwd', '/etc/resolv.conf',
  '/etc/cordon', '/etc/cordon/policies/x.yaml', '/var', '/var/lib', '/var/lib/cordon', '/var/lib/cordon/audit', '/var/lib/cordon/data/other', '/run/cordon/control.sock',
  '/var/lib/docker', '/var/lib/containerd/x', '/root/.ssh', '/home/ann/.ssh/id_ed25519', '/home/ann/.gnupg',
  '/usr', '/usr/share', '/bin', '/lib64', '/plugin', '/plugin/x', '/data', '/.cordon',
  'srv', '', './srv', '/srv/', '/srv//x', '/srv/./x', '/srv/../etc', '/..', '/srv\n', '/srv/\0', `/${'x'.repeat(1024)}`,
])('no policy can read %j', (path) => {
  expect(verdict('read', path)).toBe('refuse')
})

test.each(['/srv/www', '/opt/data', '/var/www', '/mnt/media', '/var/lib/prometheus', '/procedures', '/development', '/etcetera'])('%s is read without a warning', (path) => {
  expect(verdict('read', path)).toBe('fine')
})

test.each(['/home', '/home/ann', '/root', '/root/site', '/etc/nginx', '/var/log/nginx'])('%s is read with a warning', (path) => {
  expect(verdict('read', path)).toBe('warn')
})

test.each([
  '/run/docker.sock', '/srv/docker.sock', '/run/containerd/containerd.sock', '/run/podman/podman.sock', '/run/crio/crio.sock', '/run/systemd/private', '/run/systemd/notify',
  '/run/dbus/system_bus_socket', '/srv/system_bus_socket', '/run/user/1000/bus', '/run/cordon/control.sock', '/run/plugin/x', '/run', '/var/run/postgresql/.s.PGSQL.5432', '/tmp/x.sock',
  '/run/libvirt/libvirt-sock', '/var/lib/lxd/unix.socket',
])('no policy can talk to %s', (path) => {
  expect(verdict('socket', path)).toBe('refuse')
})

test.each(['/run/postgresql/.s.PGSQL.5432', '/run/redis/redis.sock', '/srv/app.sock'])('a policy can talk to %s', (path) => {
  expect(verdict('socket', path)).toBe('fine')
})

test('a program may lie where plugins are installed, and nowhere else in Cordon\'s own places', () => {
  expect(verdict('executable', '/var/lib/cordon/plugins/demo')).toBe('fine')
  expect(verdict('executable', '/usr/bin/python3')).toBe('fine')
  expect(verdict('executable', '/tmp/demo')).toBe('warn')
  for (const path of ['/var/lib/cordon/plugins', '/var/lib/cordon', '/var/lib/cordon/audit/x', '/etc/cordon/cordon.yaml', '/var', '/run/x', '/proc/self/exe', '/']) {
    expect(verdict('executable', path), path).toBe('refuse')
  }
})

test("Cordon's places follow the host's configuration", () => {
  const own = { policiesDir: '/srv/c/policies', stateDir: '/srv/c/state', runDir: '/srv/c/run', pluginsDir: '/srv/c/plugins' }
  for (const path of ['/srv', '/srv/c', '/srv/c/state/audit', '/srv/c/policies', '/srv/c/plugins/x']) expect(judgePath('read', path, own).verdict, path).toBe('refuse')
  expect(judgePath('read', '/srv/c2', own).verdict).toBe('fine')
  expect(judgePath('executable', '/srv/c/plugins/x', own).verdict).toBe('fine')
})

import { expect, test } from 'vitest'
import { pluginPlan, UNIFIED } from './plans.ts'

const { mounts } = pluginPlan(UNIFIED)
const isWritable = (options: readonly string[], type: string): boolean => !options.includes('ro') && type !== 'proc'
const at = (destination: string) => mounts.find((one) => one.destination === destination)

test('whatever the plugin can write is mounted last, so that nothing is mounted below it', () => {
  const writable = mounts.filter(({ options, type }) => isWritable(options, type)).map((one) => one.destination)
  expect(writable).toEqual(['/dev', '/dev/shm', '/tmp', '/run/plugin', '/data'])
  expect(mounts.slice(-3).map((one) => one.destination)).toEqual(['/tmp', '/run/plugin', '/data'])
  for (const own of ['/tmp', '/run/plugin', '/data', '/dev/shm']) expect(mounts.filter(({ destination }) => destination.startsWith(`${own}/`))).toEqual([])
})

test('everything of the host is read-only, bound without its submounts', () => {
  for (const mount of mounts.filter(({ type, destination }) => type === 'bind' && !['/run/plugin', '/data'].includes(destination))) {
    expect(mount.options).toEqual(expect.arrayContaining(['bind', 'ro', 'nosuid', 'nodev']))
    expect(mount.options).not.toContain('rbind')
  }
})

test('what is granted for reading cannot be executed, and is opened without following links', () => {
  expect(at('/srv/www')).toMatchObject({ pinned: 'path', options: expect.arrayContaining(['ro', 'noexec']) as string[] })
  expect(at('/run/postgresql/.s.PGSQL.5432')).toMatchObject({ pinned: 'socket', options: expect.arrayContaining(['ro', 'noexec']) as string[] })
  expect(at('/opt/node')).toMatchObject({ pinned: 'tree' })
  expect(at('/opt/node')?.options).not.toContain('noexec')
})

test('every tmpfs has a size, and those of the plugin a number of inodes and an owner', () => {
  for (const { options, destination } of mounts.filter(({ type }) => type === 'tmpfs')) {
    expect(options.some((option) => /^size=\d+$/.test(option))).toBe(true)
    if (destination !== '/dev') expect(options).toEqual(expect.arrayContaining(['uid=1880000016', 'mode=0700', expect.stringMatching(/^nr_inodes=\d+$/)]))
  }
})

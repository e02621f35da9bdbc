import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { PluginName } from '../../src/base/ids.ts'
import { dataDiff } from '../../src/cli/data-diff.ts'
import { readListing } from '../../src/cli/listed-files.ts'
import { DataListings, keptListings, listData, listingsDir } from '../../src/launcher/data-listing.ts'
import type { HostConfig } from '../../src/policy/host-config.ts'

const UID = 1_881_900_077
const NAME = 'sample' as PluginName
let state = ''
let data = ''
beforeEach(() => {
  state = mkdtempSync('/var/lib/cordon-data-')
  data = `${state}/data/${NAME}`
  mkdirSync(data, { recursive: true, mode: 0o700 })
  chownSync(data, UID, UID)
})
afterEach(() => rmSync(state, { recursive: true }))

/** As the plugin would: with its uid, in its directory. */
const asPlugin = (script: string): void => void execFileSync('/usr/bin/setpriv', ['--reuid', String(UID), '--regid', String(UID), '--clear-groups', '/bin/sh', '-euc', script], { cwd: data })
const diff = async (since: string, json = true): Promise<{ status: number; out: string[]; err: string[] }> => {
  const out: string[] = []
  const err: string[] = []
  const status = await dataDiff([NAME, '--since', since], { out: (line) => out.push(line), err: (line) => err.push(line), json, color: false }, { config: { stateDir: state } as HostConfig })
  return { status, out, err }
}
const changes = async (since: string): Promise<Record<string, unknown>[]> => (JSON.parse((await diff(since)).out[0] ?? '') as { changes: Record<string, unknown>[] }).changes

test('what was added, written, changed and removed since the newest listing from before', async () => {
  asPlugin('mkdir sub; echo one >stays; echo two >sub/grows; echo three >goes; echo four >mode')
  await listData(data, listingsDir(state, NAME), Date.now() - 60_000)
  asPlugin('echo more >>sub/grows; rm goes; chmod 600 mode; echo new >"$(printf "a\\nb\\033[31m")"; ln -s /etc/shadow link')
  expect((await changes('30s')).map(({ kind, path, type }) => `${String(kind)} ${String(type)} ${String(path)}`).sort()).toEqual([
    'added f a\\x0ab\\x1b[31m', 'added l link', 'changed f mode', 'removed f goes', 'written f sub/grows',
  ])
  const { out } = await diff('30s', false)
  expect(out.join(' ')).toMatch(/^sample since .*: 2 added, 1 written, 1 changed in mode or owner, 1 removed; /)
  expect(out.every((line) => line.length <= 80)).toBe(true)
  expect(out.join('\n')).not.toContain('\u001b')
})

test('a file whose times were set back is found by the mark that only the kernel sets', async () => {
  asPlugin('echo good >program')
  await listData(data, listingsDir(state, NAME), Date.now() - 60_000)
  asPlugin('touch -r program old; printf evil >program; truncate -s 5 program; touch -r old program; rm old')
  expect(await changes('30s')).toMatchObject([{ kind: 'changed', path: 'program' }]) // size and mtime say nothing, ctime does
})

test('links lead nowhere, and what even the plugin may not read is said to be missing', async () => {
  mkdirSync(`${state}/outside`)
  writeFileSync(`${state}/outside/secret`, '')
  asPlugin(`ln -s ${state}/outside away; ln -s . loop; mkdir closed; touch closed/in; chmod 000 closed; mkfifo pipe`)
  const listing = await listData(data, `${state}/l`)
  expect(listing.complete).toBe(false)
  expect([...readListing(listing.file).values()].map(({ type, path, target }) => `${type} ${path} ${target}`).sort()).toEqual([
    'd closed ', `l away ${state}/outside`, 'l loop .', 'p pipe ',
  ])
  chmodSync(`${data}/closed`, 0o700)
  expect((await listData(data, `${state}/l`)).complete).toBe(true) // the control
})

test('root\'s own directories are not walked, nor a link in the place of one', async () => {
  mkdirSync(`${state}/mine`)
  await expect(listData(`${state}/mine`, `${state}/l`)).rejects.toMatchObject({ code: 'DATA_LISTING' })
  execFileSync('/bin/ln', ['-s', '/etc', `${state}/link`])
  await expect(listData(`${state}/link`, `${state}/l`)).rejects.toMatchObject({ code: 'DATA_LISTING' })
})

test('without a listing from before it goes by the marks, and says what that cannot show', async () => {
  asPlugin('echo x >x')
  const { out, err } = await diff('1h', false)
  expect(out.join('\n')).toMatch(/1 written/)
  expect(err.join(' ')).toMatch(/no listing from before .* what was removed cannot be/)
})

test('the daemon keeps some, not one for each end of a plugin that ends again and again', async () => {
  const listings = new DataListings(state)
  const dir = listingsDir(state, NAME)
  for (let n = 0; n < 40; n++) await listData(data, dir, Date.now() - 10_000_000 + n * 1000)
  await Promise.all([listings.keep(NAME), listings.keep(NAME)])
  await listings.keep(NAME)
  expect(keptListings(dir)).toHaveLength(30)
  expect(statSync(dir).mode & 0o777).toBe(0o700)
  await expect(listings.keep('other' as PluginName)).rejects.toMatchObject({ code: 'DATA_LISTING' })
  expect(readdirSync(state).filter((name) => name.startsWith('listing-'))).toEqual([])
})

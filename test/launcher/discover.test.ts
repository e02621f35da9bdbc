import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { discoverPlugins } from '../../src/launcher/discover.ts'

const root = process.getuid?.() === 0

function directory(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cordon-discover-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  chmodSync(dir, 0o755)
  return dir
}

function program(path: string, mode = 0o755): void {
  writeFileSync(path, '#!/bin/sh\n')
  chmodSync(path, mode)
}

describe('programs without a policy', () => {
  test('a directory that is not there holds none', () => {
    expect(discoverPlugins('/nonexistent/plugins')).toEqual({ found: [], passedOver: [] })
  })

  test.skipIf(!root)('executables are found by file name; what is none is not looked at', () => {
    const dir = directory()
    program(`${dir}/b-plugin`)
    program(`${dir}/a1`, 0o500)
    program(`${dir}/notes.txt`, 0o644)
    program(`${dir}/.hidden`)
    mkdirSync(`${dir}/folder`)
    execFileSync('/usr/bin/mkfifo', ['-m', '755', `${dir}/fifo`])
    expect(discoverPlugins(dir)).toEqual({ found: [{ name: 'a1', path: `${dir}/a1` }, { name: 'b-plugin', path: `${dir}/b-plugin` }], passedOver: [] })
  })

  test.skipIf(!root)('links, files that others write and names that are none are told, not found', () => {
    const dir = directory()
    program(`${dir}/open`, 0o777)
    program(`${dir}/group`, 0o775)
    program(`${dir}/plugins`)
    program(`${dir}/UPPER`)
    program(`${dir}/${'a'.repeat(65)}`)
    program(`${dir}/evil\u001b[2J`)
    symlinkSync('/bin/true', `${dir}/link`)
    const { found, passedOver } = discoverPlugins(dir)
    expect(found).toEqual([])
    expect(passedOver.map(({ reason }) => reason.split(/[;(]/)[0]?.trim()).sort()).toEqual([...Array<string>(4).fill('its name is no plugin name'), 'a symlink', 'others than root may write it', 'others than root may write it'].sort())
    expect(JSON.stringify(passedOver)).not.toContain('\u001b')
    expect(passedOver.some(({ path }) => path.includes('\\x1b'))).toBe(true)
  })

  test.skipIf(!root)('a directory that others write is not read at all', () => {
    const dir = directory()
    program(`${dir}/good`)
    chmodSync(dir, 0o777)
    expect(discoverPlugins(dir)).toMatchObject({ found: [], passedOver: [{ path: dir }] })
    chmodSync(dir, 0o755)
    expect(discoverPlugins(dir).found.length).toBe(1)
  })
})

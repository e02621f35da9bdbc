import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from '../kernel/require.ts'

const WALLS = ['user', 'memory', 'cpu', 'tasks', 'files', 'mounts', 'executable', 'processes', 'privilege', 'seccomp', 'network', 'stdio']

describe.skipIf(!canRun())('npm run demo -- --once', () => {
  let scratch: string
  let output = ''
  let status: number | undefined

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'cordon-demo-test-'))
    writeFileSync(`${scratch}/before`, (await execa('bash', ['test/leftovers.sh', 'list'])).stdout + '\n')
    const run = await execa('bash', ['deploy/demo.sh', '--once'], { reject: false, all: true, stdin: 'ignore', timeout: 600_000 })
    output = run.all
    status = run.exitCode
  })
  afterAll(() => rmSync(scratch, { recursive: true, force: true }))

  test('ends with 0: every wall held and three plugins served their page', () => {
    expect(status, output).toBe(0)
    expect(output).toContain('Every wall held.')
    for (const name of ['notes', 'clock', 'count']) expect(output).toMatch(new RegExp(`^  ok +${name} +running, version`, 'm'))
  })

  test('says of each plugin what it was given, with a link to its page', () => {
    for (const name of ['notes', 'clock', 'count', 'hostile']) {
      expect(output).toMatch(new RegExp(`^ ${name}\\n  program .*\\n(?:.*\\n)*?  network +none\\n(?:.*\\n)*?  page +http://${name}\\.localhost:\\d+/`, 'm'))
    }
  })

  test('shows wall by wall how the hostile one was refused, on lines of at most 80 columns', () => {
    for (const wall of WALLS) expect(output).toMatch(new RegExp(`^  held +${wall} +\\d+ attempts?`, 'm'))
    const wide = output.split('\n').filter((line) => line.length > 80 && !line.includes('://'))
    expect(wide).toEqual([])
  })

  test('finds the audit log whole, and leaves nothing behind', async () => {
    expect(output).toContain('The log is whole')
    const { exitCode, stderr } = await execa('bash', ['test/leftovers.sh', 'since', `${scratch}/before`], { reject: false })
    expect(exitCode, stderr).toBe(0)
    expect((await execa('find', ['/var/lib', '/run', '/tmp', '-maxdepth', '1', '-name', 'cordon-demo.*'])).stdout).toBe('')
  })
})

describe.skipIf(!canRun())('npm run demo', () => {
  test('removes everything when it is stopped with Ctrl-C', async () => {
    const demo = execa('bash', ['deploy/demo.sh'], { reject: false, all: true, stdin: 'ignore', timeout: 600_000 })
    let seen = ''
    const ready = new Promise<void>((done) => demo.all.on('data', (chunk: Buffer) => {
      seen += chunk.toString()
      if (seen.includes('Ctrl-C: stop and remove everything.')) done()
    }))
    await Promise.race([ready, demo])
    expect(seen).toMatch(/^ {2}notes +http:\/\/notes\.localhost:\d+\//m)
    demo.kill('SIGINT') // bash has become node by then
    const { exitCode } = await demo
    expect(exitCode, seen).toBe(0)
    expect((await execa('find', ['/var/lib', '/run', '-maxdepth', '1', '-name', 'cordon-demo.*'])).stdout).toBe('')
  }, 700_000)
})

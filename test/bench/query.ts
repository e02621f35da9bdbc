/**
 * `cordon audit query`: how long the index takes to be made and how large it is, and how long each kind of question takes with the
 * index up to date, as the command (a new process) and within it. `query.ts [RECORDS]`, 1,000,000 unless told; 10,000,000 is the
 * promise: each under one second. Log and index are kept in /var/tmp for another run with the same number; `query.ts clean` removes them.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { auditQuery } from '../../src/cli/audit-query.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import { busyHost, writeSegments } from '../history/kit.ts'

const tree = `${import.meta.dirname}/../..`
const places = '/var/tmp/cordon-bench-query'
if (process.argv[2] === 'clean') {
  rmSync(places, { recursive: true, force: true })
  process.exit(0)
}
const count = Number(process.argv[2] ?? 1_000_000)
const stateDir = `${places}/${count}`
const step = 50
const begin = Date.parse('2026-01-01T00:00:00Z')
if (!existsSync(`${stateDir}/made`)) {
  rmSync(stateDir, { recursive: true, force: true })
  mkdirSync(stateDir, { recursive: true })
  function* records() {
    let n = 0
    for (const record of busyHost(count, begin, step)) {
      n += 1
      if (n === Math.floor(count / 10)) yield { ...record, type: 'plugin.failed', plugin: 'indexnow', data: { code: 'LAUNCH_FAILED', reason: 'a needle of old times' } }
      else if (n === Math.floor(count / 3)) yield { ...record, type: 'egress.refused', plugin: 'mail', data: { name: 'only.once.example.com', code: 'name-not-allowed', client: '198.51.100.7' } }
      else yield record
    }
  }
  writeSegments(stateDir, records(), 64 * 1024 * 1024)
  writeFileSync(`${stateDir}/made`, '')
}
if (process.argv[3] === 'make') process.exit(0)
const size = (dir: string): number => readdirSync(dir).reduce((sum, name) => sum + statSync(`${dir}/${name}`).size, 0)
const bytes = size(`${stateDir}/audit/records`)

const config = { ...DEFAULT_HOST_CONFIG, stateDir }
const io = { out: (line: string) => void out.push(line), err: () => undefined, json: true, color: false }
let out: string[] = []
const { signal } = new AbortController()
async function time(args: readonly string[]): Promise<number> {
  out = []
  const start = performance.now()
  await auditQuery(args, io, { config, signal })
  return performance.now() - start
}

const known = existsSync(`${stateDir}/audit-index`)
const made = await time(['-n', '1'])
const speed = known ? `index of an earlier run, brought up in ${made.toFixed(0)} ms` : `index made in ${(made / 1000).toFixed(1)} s (${Math.round(count / made * 1000)} records/s)`
console.log(`query: ${count} records, ${(bytes / 1e6).toFixed(0)} MB; ${speed}, ${(size(`${stateDir}/audit-index`) / 1e6).toFixed(0)} MB, ${Math.round(process.memoryUsage().rss / 1e6)} MB RSS`)

const at = (share: number): string => new Date(begin + count * share * step).toISOString()
const questions: readonly (readonly string[])[] = [
  [], ['--oldest'], ['--plugin', 'mail'], ['--type', 'egress.*', '--plugin', 'notes'], ['--type', 'admin.act', '-n', '1000'], ['--outcome', 'failed', '--plugin', 'seo'],
  ['--host', 'only.once.example.com'], ['--host', '*.once.example.com'], ['--host', 'host3.example.org', '--plugin', 'image', '--type', 'egress.closed'],
  ['--client', '192.0.2.7', '-n', '1000'], ['--client', '198.51.100.7'], ['--type', 'plugin.failed'], ['--outcome', 'LAUNCH_FAILED'], ['--digest', 'abcdef12'],
  ['--text', 'needle of old'], ['--text', 'a text that is nowhere'], ['--text', 'x777.'], ['--text', 'zzz'], ['--plugin', 'nobody'],
  ['--since', at(0.5), '--until', at(0.5001)], ['--since', at(0.2), '--until', at(0.3), '--host', 'host17.example.org', '--oldest'], ['--type', 'gap'],
]
let slowest = 0
for (const question of questions) {
  const ms = [await time(question), await time(question), await time(question)].sort((a, b) => a - b)[1] ?? 0
  slowest = Math.max(slowest, ms)
  console.log(`query: ${ms.toFixed(0).padStart(5)} ms  ${String(out.length).padStart(5)} records  ${question.join(' ') || '(the newest)'}`)
}
writeFileSync(`${stateDir}/cordon.yaml`, `state_dir: ${stateDir}\nrun_dir: ${stateDir}/run\n`)
const start = performance.now()
execFileSync(process.execPath, [`${tree}/dist/cli.cjs`, 'audit', 'query', '--config', `${stateDir}/cordon.yaml`, '--host', 'only.once.example.com'], { stdio: ['ignore', 'ignore', 'inherit'] })
console.log(`query: slowest ${slowest.toFixed(0)} ms within the process (at most 1000); the command with its start: ${(performance.now() - start).toFixed(0)} ms`)

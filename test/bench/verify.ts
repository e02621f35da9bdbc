/**
 * `cordon audit verify` against a bare loop that reads and hashes the same bytes: `node test/bench/verify.ts [RECORDS]`. No root.
 * Promise: at least 500,000 records of 300 bytes per second, seals, chain, canonical form and tree checked.
 */
import { hash, sign } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { verifyLog } from '../../src/audit/verify/log.ts'
import { leafHash, toHex, Tree } from '../../src/audit/verify/tree.ts'
import { Forge } from '../audit/forge.ts'

const RECORDS = Number(process.argv[2] ?? 2_000_000)
const PER_SEAL = 4096
const RECORD_BYTES = 300
const dir = mkdtempSync(join(tmpdir(), 'cordon-bench-'))
const path = join(dir, `records/${'0'.repeat(16)}.jsonl`)
mkdirSync(join(dir, 'records'))
const forge = new Forge()
const fd = openSync(path, 'w')
const tree = new Tree()
let prev = '0'.repeat(64)
let prevSeal = prev
let epoch = 0
let pending: string[] = []
function add(line: string): void {
  const leaf = leafHash(Buffer.from(`\0${line}`))
  tree.push(leaf)
  prev = toHex(leaf)
  pending.push(line)
  if (pending.length < 4096) return
  writeSync(fd, `${pending.join('\n')}\n`)
  pending = []
}
add(forge.lines[0] ?? '')
const [head = '', tail = ''] = forge.text(0, 'P', 'http.count', { ok: 17 }, { plugin: 'indexnow' }).split('"prev":"P"')
while (tree.size < RECORDS) {
  if (tree.size % PER_SEAL !== 0) {
    add(`${head}"prev":"${prev}"${tail.replace('"seq":0', `"seq":${tree.size}`)}`)
    continue
  }
  const data = { epoch, interval_s: 60, next_key: forge.epochKey(epoch + 1).raw.toString('hex'), prev_seal: prevSeal, root: toHex(tree.root()), size: tree.size, why: 'count' }
  const sig = sign(null, Buffer.from(`cordon-seal/v1\n${forge.text(tree.size, prev, 'seal', data)}`), forge.epochKey(epoch).secret).toString('hex')
  add(forge.text(tree.size, prev, 'seal', { ...data, sig }))
  prevSeal = prev
  epoch += 1
}
writeSync(fd, `${pending.join('\n')}\n`)
closeSync(fd)
const { size } = statSync(path)

function bare(): number {
  const started = performance.now()
  const file = openSync(path, 'r')
  const window = Buffer.allocUnsafe(4 * 1024 * 1024)
  for (let at = 0; at < size; ) {
    const got = readSync(file, window, 0, window.length, at)
    for (let start = 0; start < got; start += RECORD_BYTES) hash('sha256', window.subarray(start, Math.min(got, start + RECORD_BYTES)), 'hex')
    at += got
  }
  closeSync(file)
  return (performance.now() - started) / 1000
}

async function verify(): Promise<number> {
  const started = performance.now()
  const { verdict, records } = await verifyLog(dir, { now: forge.now })
  if (verdict !== 'whole' || records !== tree.size) throw new Error(`${verdict}, ${records} records`)
  return (performance.now() - started) / 1000
}

try {
  bare()
  const seconds = { bare: Math.min(bare(), bare()), verify: Math.min(await verify(), await verify()) }
  const rate = tree.size / seconds.verify
  const { rss } = process.memoryUsage()
  console.log(`verify: ${tree.size} records of ${(size / tree.size).toFixed(0)} bytes, ${epoch} seals: ${rate.toFixed(0)} records/s (at least 500000), ${(size / 2 ** 20 / seconds.verify).toFixed(0)} MiB/s; `
    + `reading and hashing alone ${(tree.size / seconds.bare).toFixed(0)}/s, ratio ${(seconds.bare / seconds.verify).toFixed(2)}; ${(rss / 2 ** 20).toFixed(0)} MiB resident`)
  process.exitCode = rate >= 500_000 ? 0 : 1
} finally {
  rmSync(dir, { recursive: true })
}

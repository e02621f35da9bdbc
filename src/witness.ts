import type { AddressInfo } from 'node:net'
import { printable } from './base/printable.ts'
import { parseVerifierKey, type VerifierKey } from './audit/verify/note.ts'
import { createWitness } from './witness/server.ts'
import { WitnessState } from './witness/state.ts'

/**
 * A witness for audit logs on other machines: `witness.cjs STATE_DIR NAME HOST PORT LOG_KEY…`. Started by `cordon witness`,
 * which has dropped privileges and holds the lock of the directory.
 */
function main([dir = '', name = '', host = '', port = '', ...keys]: readonly string[]): void {
  process.umask(0o077)
  const logs = new Map<string, VerifierKey[]>()
  for (const text of keys) {
    const key = parseVerifierKey(text)
    if (key === null || key.type !== 1) throw new Error(`"${printable(text, 200)}" is no key of a log: NAME+ID+BASE64 of type 1`)
    logs.set(key.name, [...(logs.get(key.name) ?? []), key])
  }
  const state = new WitnessState(dir, name, logs.keys())
  const server = createWitness(state, logs, (line) => void process.stderr.write(`${line}\n`))
  server.on('error', (error) => {
    process.stderr.write(`error: LISTEN_FAILED ${printable(error.message)}\n`)
    process.exit(69)
  })
  server.listen({ host, port: Number(port) }, () => {
    process.stdout.write(`witness key: ${state.verifierKey}\n`)
    process.stdout.write(`witness url: http://${host.includes(':') ? `[${host}]` : host}:${(server.address() as AddressInfo).port}\n`)
    for (const origin of logs.keys()) process.stdout.write(`log: ${origin}, ${state.seen(origin)?.size ?? 0} records seen\n`)
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(0)) // what is remembered is on the disk at any time
}

try {
  main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`error: ${printable(error instanceof Error ? error.message : String(error), 400)}\n`)
  process.exitCode = 78
}

import { mkdirSync, writeFileSync } from 'node:fs'
import { GENESIS_HASH, prepareEntry } from '../../src/audit/entry.ts'
import type { AuditEvent } from '../../src/audit/record.ts'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { chained } from '../audit/chained.ts'

export interface At { readonly event: AuditEvent; readonly ms: number }

/** An audit log as the launcher writes it, with times of the test's own. */
export function writeLog(stateDir: string, events: readonly At[]): void {
  mkdirSync(`${stateDir}/audit/records`, { recursive: true })
  let prev = GENESIS_HASH
  const lines = events.map(({ event, ms }, seq) => {
    const { bytes, hash } = chained(prepareEntry(event, 'door', { wallMs: ms, monoMs: seq, boot: 'b' }, Buffer.alloc(32)), seq + 1, prev)
    prev = hash
    return bytes.toString()
  })
  writeFileSync(`${stateDir}/audit/records/0000000000000000.jsonl`, `${lines.join('\n')}\n`)
}

const base = { run: '0123456789abcdef' as RunId, connection: 1, dialled: '198.18.0.5', rule: 1, ms: 3 }
const of = (plugin: string) => ({ ...base, plugin: plugin as PluginName })

export const opened = (ms: number, name: string, port = 443, plugin = 'demo'): At => ({ ms, event: { type: 'egress.opened', ...of(plugin), name, port, sni: port === 443 ? name : null, address: '93.184.215.14', ech: false, alpn: [], code: 'allowed' } })
export const closed = (ms: number, name: string, bytesOut: number, plugin = 'demo'): At => ({ ms, event: { type: 'egress.closed', ...of(plugin), name, port: 443, sni: name, address: '93.184.215.14', bytesOut, bytesIn: 10, by: 'plugin', code: null, requests: 0 } })
export const refused = (ms: number, name: string, port: number, code: string, say: string, coalesced: number, plugin = 'demo'): At => ({ ms, event: { type: 'egress.refused', ...of(plugin), name, port, sni: null, addresses: ['10.0.0.7'], host: null, code, say, coalesced } })
export const asked = (ms: number, name: string, coalesced = 0, plugin = 'demo'): At => ({ ms, event: { type: 'dns.refused', plugin: plugin as PluginName, run: base.run, name, query: 'A', code: 'name-not-allowed', say: 'no rule names it', coalesced } })

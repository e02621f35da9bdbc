import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { canRun } from './require.ts'
import { RUNC } from './runc.ts'
import { CORDON, WalledHost } from './walled.ts'

describe.skipIf(!canRun(RUNC, '/usr/bin/curl', '/usr/bin/perl'))('cordon run with a door of its own', () => {
  let host: WalledHost
  let server: Server
  let port = 0
  const served: string[] = []
  beforeAll(async () => {
    host = new WalledHost(1_881_083_000)
    server = createServer((request, response) => {
      served.push(request.url ?? '')
      response.end('served')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    ;({ port } = server.address() as AddressInfo)
  })
  afterAll(() => {
    server.close()
    host.remove()
  })
  afterEach(() => {
    expect(host.leftovers()).toEqual([])
  })
  const ask = (path: string): string[] => ['/usr/bin/curl', '--silent', '--show-error', '--max-time', '10', `http://host.internal:${port}${path}`]

  test('--allow opens that destination and no other; without it nothing arrives', async () => {
    const sealed = await host.run(ask('/sealed'))
    expect([sealed.status === 0, served]).toEqual([false, []])
    const open = await host.run(ask('/open'), { options: ['--allow', `host.internal:${port}`] })
    expect([open.status, String(open.stdout), served], open.stderr).toEqual([0, 'served', ['/open']])
    const other = await host.run(ask('/other'), { options: ['--allow', `host.internal:${port === 65_535 ? 1 : port + 1}`] })
    expect([other.status === 0, served]).toEqual([false, ['/open']])
    expect(open.records.filter(({ type }) => type.startsWith('egress.')).map(({ type, data }) => [type, data['name'], data['port']])).toEqual([['egress.opened', 'host.internal', port], ['egress.closed', 'host.internal', port]])
  })

  test('--record writes a policy that passes the check and lets the same run through again', async () => {
    const file = `${host.dir}/policies/fetch.yaml`
    const recorded = await host.run(ask('/recorded'), { options: ['--allow', `host.internal:${port}`, '--record', file] })
    expect([recorded.status, served.at(-1)], recorded.stderr).toEqual([0, '/recorded'])
    expect(recorded.stderr).toContain('LEARNING, NOT PROTECTED')
    expect(readFileSync(file, 'utf8')).toContain(`{ host: host.internal, ports: [${port}]`)
    execFileSync(CORDON, ['--config', host.config, 'policy', 'check', file])
    const again = await host.run(ask('/again'), { options: ['--policy', file] })
    expect([again.status, served.at(-1)], again.stderr).toEqual([0, '/again'])
    const twice = await host.run(ask('/twice'), { options: ['--record', file] })
    expect([twice.status, served.at(-1)]).toEqual([73, '/again'])
  })
})

import { Agent } from 'undici'
import { describe, expect, it } from 'vitest'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { parseManifest } from '../../src/handshake/parse-manifest.ts'
import { LiveRegistry } from '../../src/registry/live-registry.ts'
import type { Endpoint } from '../../src/registry/registry.ts'
import type { PluginState, PluginStatus } from '../../src/wire/requests.ts'

const RUN = '00000000000000aa' as RunId
const NEXT_RUN = '00000000000000bb' as RunId
const NAME = 'sample' as PluginName

function status(state: PluginState, run: RunId | null = RUN, name = NAME): PluginStatus {
  return { name, state, run, reason: null, since: '', restarts: 0, policyDigest: null, executableSha256: null, generation: null, version: null, unenforced: [], learning: null, door: 'shut', temporary: 0 }
}

function endpoint(run: RunId = RUN, plugin = NAME): Endpoint {
  const manifest = parseManifest({ name: plugin, version: '1' }, { requiresDbWhenAbsent: false })
  return { plugin, run, secret: 's', manifest, publicPaths: [], dispatcher: new Agent(), openapi: null }
}

function registry() {
  const warnings: string[] = []
  return { registry: new LiveRegistry((w) => void warnings.push(w)), warnings }
}

describe('LiveRegistry', () => {
  it('knows nothing before the launcher says so, and lists by name after', () => {
    const { registry: live } = registry()
    expect(live.get(NAME)).toBeNull()
    expect(live.list()).toEqual([])
    live.update([status('stopped', null, 'zeta' as PluginName), status('stopped', null, 'alpha' as PluginName)])
    expect(live.list().map((view) => view.status.name)).toEqual(['alpha', 'zeta'])
  })

  it('shows an endpoint only while the launcher says that this run is running', () => {
    const { registry: live, warnings } = registry()
    live.update([status('starting')])
    live.connect(endpoint())
    expect(live.get(NAME)?.endpoint).toBeNull()
    live.update([status('running')])
    expect(live.get(NAME)?.endpoint?.run).toBe(RUN)
    live.update([status('stopping')])
    expect(live.get(NAME)?.endpoint).toBeNull()
    expect(warnings).toEqual([])
  })

  it('never shows the endpoint of an earlier run, nor that of another plugin', () => {
    const { registry: live } = registry()
    live.connect(endpoint(RUN))
    live.connect(endpoint(NEXT_RUN, 'other' as PluginName))
    live.update([status('starting', NEXT_RUN)])
    live.update([status('running', NEXT_RUN)])
    expect(live.get(NAME)?.endpoint).toBeNull()
  })

  it('forgets an endpoint at disconnect and a plugin that is no longer listed', () => {
    const { registry: live } = registry()
    live.update([status('starting')])
    live.connect(endpoint())
    live.update([status('running')])
    live.disconnect(RUN)
    expect(live.get(NAME)?.endpoint).toBeNull()
    live.update([])
    expect(live.get(NAME)).toBeNull()
  })

  it('believes the launcher and says what was no legal move', () => {
    const { registry: live, warnings } = registry()
    live.update([status('stopped', null)])
    live.update([status('running')])
    expect(live.get(NAME)?.status.state).toBe('running')
    expect(warnings).toEqual([expect.stringContaining('from stopped to running')])
  })
})

import { describe, expect, it } from 'vitest'
import { isLegalFirst, isLegalMove } from '../../src/registry/state.ts'
import { PLUGIN_STATES } from '../../src/wire/requests.ts'

describe('the states of a plugin', () => {
  it('let a plugin run only after it has been starting, or stood still while it ran', () => {
    expect(PLUGIN_STATES.filter((from) => from !== 'running' && isLegalMove(from, 'running'))).toEqual(['starting', 'paused'])
  })

  it('let a plugin be stopping only while it has a process', () => {
    expect(PLUGIN_STATES.filter((from) => from !== 'stopping' && isLegalMove(from, 'stopping'))).toEqual(['starting', 'running', 'paused'])
    expect(PLUGIN_STATES.filter((from) => from !== 'paused' && isLegalMove(from, 'paused'))).toEqual(['running'])
  })

  it('leave a way to start from every state without a process', () => {
    for (const from of ['waiting', 'disabled', 'stopped', 'backoff', 'failed', 'quarantined'] as const) expect(isLegalMove(from, 'starting')).toBe(true)
  })

  it('let every plugin be put in quarantine', () => {
    for (const from of PLUGIN_STATES) expect(isLegalMove(from, 'quarantined')).toBe(true)
  })

  it('let every state stay as it is, and a new plugin be in no state that has a past', () => {
    for (const state of PLUGIN_STATES) expect(isLegalMove(state, state)).toBe(true)
    expect(PLUGIN_STATES.filter((state) => !isLegalFirst(state))).toEqual(['running', 'paused', 'stopping'])
  })
})

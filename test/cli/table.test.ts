import { describe, expect, test } from 'vitest'
import { nearest } from '../../src/base/suggest.ts'
import { takeGlobals } from '../../src/cli/args.ts'
import { formatTable, wrap } from '../../src/cli/table.ts'

describe('a table', () => {
  test('that fits is left alone, columns aligned, no blanks at line ends', () => {
    expect(formatTable(['A', 'BB'], [['1', '2'], ['333', '']])).toEqual(['A    BB', '1    2', '333'])
  })

  test('that is too wide loses from its widest column, visibly', () => {
    const lines = formatTable(['NAME', 'REASON'], [['indexnow', 'x'.repeat(300)]])
    expect(lines[1]).toHaveLength(80)
    expect(lines[1]).toMatch(/^indexnow {2}x+…$/)
  })

  test('shows control characters as escapes', () => {
    expect(formatTable(['A'], [['\u001b[2J\u202e']])[1]).toBe('\\x1b[2J\\u{202e}')
  })
})

describe('wrapped text', () => {
  test('keeps its first indentation, indents what follows and breaks at blanks alone', () => {
    expect(wrap('  a bb  ccc dddd', 9, '    ')).toEqual(['  a bb ', '    ccc', '    dddd'])
    expect(wrap('x'.repeat(100), 80)).toEqual(['x'.repeat(100)])
    expect(wrap('')).toEqual([''])
  })
})

describe('global options', () => {
  test('are taken out wherever they stand, the other words keep their order', () => {
    expect(takeGlobals(['-n', '--json', '5', '--config=/a', 'x', '--no-color'])).toEqual({ options: { config: '/a', json: true, help: false, version: false, color: false }, rest: ['-n', '5', 'x'] })
    expect(takeGlobals(['run', '--', '--json', '--', '-h'])).toEqual({ options: { config: null, json: false, help: false, version: false, color: true }, rest: ['run', '--', '--json', '--', '-h'] })
  })

  test('a far word is no slip', () => {
    expect([nearest('liste', ['list', 'logs']), nearest('frobnicate', ['list', 'logs']), nearest('', ['list'])]).toEqual(['list', null, null])
  })
})

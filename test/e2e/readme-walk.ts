import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { TREE } from './host.ts'

/** Commands to copy, and what the README says that they print. */
export interface Step { readonly commands: string; readonly prints: readonly string[] }

/** The steps between `<!-- MARK -->` and `<!-- /MARK -->` of the README. */
export function walkOf(mark: string): Step[] {
  const block = readFileSync(join(TREE, 'README.md'), 'utf8').split(`<!-- ${mark} -->`)[1]?.split(`<!-- /${mark} -->`)[0] ?? ''
  return [...block.matchAll(/```sh\n([^]*?)```\n(?:\n```text\n([^]*?)```)?/g)]
    .map(([, commands = '', prints = '']) => ({ commands, prints: prints.split('\n').filter((line) => line.trim() !== '') }))
}

/** Each line that the README shows stands in the output, in that order; instants, digests and amounts are another run's. */
export function compare(out: string, prints: readonly string[]): void {
  const lines = plain(out).split('\n')
  for (const wanted of prints.map(plain)) {
    const at = lines.indexOf(wanted)
    expect(at, `"${wanted}" is in the README and not here (or not in this order):\n${plain(out)}`).toBeGreaterThanOrEqual(0)
    lines.splice(0, at + 1)
  }
}

function plain(text: string): string {
  return text.replaceAll('\r', '')
    .replace(/\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?Z)?/g, 'WHEN').replace(/\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b/g, 'DIGEST').replace(/sha256=[0-9a-f]+…/g, 'sha256=DIGEST')
    .replace(/SHA256:[A-Za-z0-9+/]{43}/g, 'FINGERPRINT').replace(/\b\d\d-\d\d \d\d:\d\d:\d\d( +\d+(?= ))?/g, 'AT').replace(/\brecord \d+ of the/, 'record SEQ of the')
    .replace(/\bwhole: \d+ records/, 'whole: COUNT records').replace(/\bgathered: \d+ files, (.*) record \d+ of cordon-audit\/[0-9a-f]{16}/, 'gathered: FILES, $1 record SEQ').replace(/ by root\b.*$/gm, ' by root') // and with whose login
    .replace(/\([\d.]+ h\)/g, '(HOURS)').replace(/\b\d+(?:\.\d+)?[BKM]\b/g, 'SIZE').replace(/(TasksMax: |peak of )\d+/g, '$1NUMBER')
}

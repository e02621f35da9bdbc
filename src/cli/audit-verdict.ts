import { NOT_SHOWN, type VerifyResult } from '../audit/verify/verdict.ts'
import { printable } from '../base/printable.ts'

const SHOWN = 10

/** What `cordon audit verify` says: one plain sentence, then what an operator asks next. */
export function describeVerdict(result: VerifyResult, compared: boolean): string[] {
  const { firstBad, pruned, unsealed, lastSealed } = result
  const lines = [sentence(result)]
  if (firstBad !== null) lines.push(`  record ${firstBad.seq}, ${place(firstBad)}: ${printable(firstBad.problem, 500)}`)
  for (const { from, to } of result.missing.slice(0, SHOWN)) lines.push(`  missing: ${from === to ? `record ${from}` : `records ${from} to ${to}`}`)
  if (result.missing.length > SHOWN) lines.push(`  missing: ${result.missing.length - SHOWN} more ranges`)
  for (const gap of result.gaps.slice(0, SHOWN)) lines.push(`  gap at record ${gap.seq}, ${gap.time}: ${gap.reason} ${printable(JSON.stringify(gap.data), 300)}`)
  if (result.gapCount > SHOWN) lines.push(`  and ${result.gapCount - SHOWN} more gaps; \`cordon audit tail --type gap\` shows them`)
  for (const { seq, seconds } of result.pauses.slice(0, SHOWN)) lines.push(`  no seal for ${seconds} s after the one at record ${seq}: the writer stood still, or was ended and started`)
  if (result.pauses.length > SHOWN) lines.push(`  and ${result.pauses.length - SHOWN} more such pauses`)
  lines.push(lastSealed === null ? 'last sealed: never' : `last sealed: record ${lastSealed.seq} at ${lastSealed.time} (epoch ${lastSealed.epoch}, ${lastSealed.why})`)
  if (firstBad === null || result.verdict === 'unverifiable-tail') lines.push(`not yet sealed: ${count(unsealed.records, 'record')} at the end${unsealed.records === 0 ? '' : `, ${unsealed.seconds} s`}`)
  lines.push(...witnessed(result))
  if (pruned !== null) lines.push(`removed by retention, sealed as removed: records ${pruned.from} to ${pruned.to}`)
  if (result.clockSteps > 0) lines.push(`the wall clock went back ${count(result.clockSteps, 'time')}; the order of the records does not depend on it`)
  if (result.fingerprint !== null) lines.push(`first key: ${result.fingerprint}${result.keyConfirmed ? ', the one that you named' : ''}`)
  if (result.lastHash !== null && result.verdict !== 'tampered') lines.push(`head: ${result.records - 1}:${result.lastHash}`)
  if (result.headConfirmed) lines.push('The remembered record is in it, unchanged.')
  if (result.savedConfirmed > 0) lines.push(`${count(result.savedConfirmed, 'saved checkpoint')} agree${result.savedConfirmed === 1 ? 's' : ''} with it, the largest for ${count(result.savedSize ?? 0, 'record')}.`)
  lines.push(...result.notes.slice(0, SHOWN).map((note) => `note: ${printable(note, 400)}`))
  if (!compared) lines.push(`note: ${NOT_SHOWN}`)
  return lines
}

function sentence(result: VerifyResult): string {
  const n = count(result.records, 'record')
  switch (result.verdict) {
    case 'whole':
      return `The log is whole: ${n}, each where it was written${result.lastTime === null ? '' : `, the last of ${result.lastTime}`}.`
    case 'gap':
      return `The log is unchanged, but not everything was recorded: ${n}, ${count(result.gapCount, 'gap')}${result.pauses.length === 0 ? '' : `, ${count(result.pauses.length, 'pause')} without a seal`}.`
    case 'unverifiable-tail':
      return `The log's end cannot be verified: ${n} ${result.records === 1 ? 'is' : 'are'} unchanged as far as seals reach, and what should follow does not.`
    case 'tampered':
      return result.records === 0 ? 'The log was TAMPERED WITH or damaged: nothing in it can be believed.' : `The log was TAMPERED WITH or damaged: only the first ${n} can be believed.`
  }
}

function place({ file, line, offset }: { readonly file: string; readonly line: number; readonly offset: number }): string {
  return line === 0 ? file : `${file} line ${line}, byte ${offset}`
}

function witnessed({ lastWitnessed }: VerifyResult): string[] {
  if (lastWitnessed.length === 0) return ['last witnessed: never']
  return lastWitnessed.map(({ name, size, time, verified }) => `last witnessed: ${count(size, 'record')} by ${name}${time === null ? '' : ` at ${time}`}${verified ? '' : ' (not checked: name its key with --witness)'}`)
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}

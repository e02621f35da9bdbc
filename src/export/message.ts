import { fieldsOf, parseRecord, type Outcome } from '../history/fields.ts'

/** RFC 5424 section 6.2.1, table 2. */
const SEVERITY: Readonly<Record<Outcome, number>> = { ok: 6, refused: 5, failed: 4, lost: 3, alarm: 1 }
/** What is no record after all: somebody should look. */
const NO_RECORD = 3
/** "log audit", table 1. */
const FACILITY = 13

/**
 * One line of the log as an RFC 5424 message. The record itself is the text, behind the cookie by which rsyslog and syslog-ng know JSON
 * (`@cee:`); structured data would need a registered number and say the same again.
 * @param line canonical JSON, attacker-controlled in its texts; it has no control characters
 */
export function syslogMessage(line: string, host: string): Buffer {
  const { severity, time, type } = headOf(line)
  return Buffer.from(`<${FACILITY * 8 + severity}>1 ${time} ${word(host, 255)} cordon - ${word(type, 32)} - @cee:${line}`)
}

/** RFC 6587 section 3.4.1, "octet counting": a message may hold anything. */
export function framed(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${message.length} `), message])
}

/** A line of journald's stream: severity in front, sd-daemon(3). */
export function journalLine(line: string): Buffer {
  return Buffer.from(`<${headOf(line).severity}>${line}\n`)
}

/** How a stream to journald begins, systemd/src/journal/journald-stream.c: identifier, unit, severity, prefixes on, no forwarding. */
export const JOURNAL_PREAMBLE = Buffer.from('cordon\n\n6\n1\n0\n0\n0\n')

function headOf(line: string): { readonly severity: number; readonly time: string; readonly type: string } {
  const record = parseRecord(line)
  const fields = record === null ? null : fieldsOf(record)
  return record === null || fields === null ? { severity: NO_RECORD, time: '-', type: '-' } : { severity: SEVERITY[fields.outcome], time: record.time, type: record.type }
}

/** Printable ASCII without blanks (RFC 5424 section 6); nothing: "-". */
function word(text: string, max: number): string {
  const kept = text.replace(/[^!-~]/g, '_').slice(0, max)
  return kept === '' ? '-' : kept
}

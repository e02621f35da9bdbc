import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { strictBase64, type Checkpoint, type Signature } from './note.ts'

/** Read in windows; a checkpoint, however quoted, is shorter than what two of them share. */
const WINDOW_BYTES = 4 * 1024 * 1024
const OVERLAP_BYTES = 64 * 1024
/** A checkpoint each minute for almost two years. */
const MAX_FOUND = 1_000_000

/** What mail, chats and JSON put between or into lines: white space, quoting marks, escaped line ends, tags. Each part begins differently. */
const MARK = String.raw`(?:[\s\x1c-\x1f\x85\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff>|*_"'\x60,;]|\\[nrt]|<[^<>]{0,40}>|&gt;|&nbsp;)`
/** Or each line begins with who said it, and when: a chat of one-line messages, syslog. */
const BETWEEN = String.raw`(?:${MARK}{1,60}|\r?\n[^\n]{1,120}?[\s\x1c-\x1f\x85\ufeff:>\])])`
const HEAD = new RegExp(String.raw`(cordon-audit/[0-9a-f]{16})${BETWEEN}(0|[1-9][0-9]{0,15})${BETWEEN}([A-Za-z0-9+/]{43}=)`, 'g')
const MARKS = new RegExp(`${MARK}+`, 'g')
/** Where signatures may stand behind a root, in characters. */
const REACH = 6000
const SIGNATURE_CHARS = { log: 92, cosignature: 104 } as const

/**
 * Every checkpoint in a text of any kind: a mail box (quoted-printable, base64, quoted), a chat export, JSON. Nothing that is
 * returned may be believed before its signature was checked.
 * @param path the operator's; its bytes may be attacker-controlled
 * @param witnesses names whose signatures are picked up as well
 * @param take called for each, the same one perhaps more than once; @throws errno errors, RangeError beyond MAX_FOUND
 */
export function findSavedCheckpoints(path: string, witnesses: readonly string[], take: (found: Checkpoint) => void): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!fstatSync(fd).isFile()) throw Object.assign(new Error(`${path} is no regular file`), { code: 'ENOTSUP' })
    const window = Buffer.allocUnsafe(WINDOW_BYTES)
    const seen = new Set<string>()
    const once = (found: Checkpoint): void => {
      const key = `${found.origin} ${found.size} ${found.root} ${found.signatures.length}`
      if (seen.has(key)) return
      if (seen.size >= MAX_FOUND) throw new RangeError(`it holds more than ${MAX_FOUND} checkpoints; split it`)
      seen.add(key)
      take(found)
    }
    for (let kept = 0; ; ) {
      const got = readSync(fd, window, kept, WINDOW_BYTES - kept, null)
      if (got === 0) break
      const filled = kept + got
      findInText(window.toString('utf8', 0, filled), witnesses, once)
      kept = Math.min(OVERLAP_BYTES, filled)
      window.copyWithin(0, filled - kept, filled)
    }
  } finally {
    closeSync(fd)
  }
}

function findInText(text: string, witnesses: readonly string[], take: (found: Checkpoint) => void): void {
  for (const form of forms(text)) {
    const heads = [...form.matchAll(HEAD)]
    for (const [index, match] of heads.entries()) {
      const [whole, origin = '', digits = '', root = ''] = match
      const rootBytes = strictBase64(root)
      const size = Number(digits)
      if (rootBytes === null || !Number.isSafeInteger(size)) continue
      const start = match.index + whole.length
      const after = form.slice(start, Math.min(start + REACH, heads[index + 1]?.index ?? form.length))
      const signatures = [...signaturesOf(after, origin, SIGNATURE_CHARS.log), ...signaturesOf(after, `${origin}/epoch`, SIGNATURE_CHARS.log), ...witnesses.flatMap((name) => signaturesOf(after, name, SIGNATURE_CHARS.cosignature))]
      take({ origin, size, root: rootBytes.toString('hex'), text: `${origin}\n${digits}\n${root}\n`, signatures })
    }
  }
}

/** Signatures under one name: base64 of a known length, perhaps broken over lines by whoever carried it. */
function signaturesOf(after: string, name: string, length: number): Signature[] {
  const found: Signature[] = []
  for (let at = after.indexOf(name); at >= 0 && found.length < 4; at = after.indexOf(name, at + name.length)) {
    const rest = after.slice(at + name.length, at + name.length + length + 100)
    if (/^[A-Za-z0-9+/]/.test(rest)) continue // a longer name
    const base64 = rest.replace(MARKS, '').slice(0, length)
    const bytes = strictBase64(base64)
    if (bytes !== null && base64.length === length) found.push({ name, id: bytes.subarray(0, 4).toString('hex'), bytes: bytes.subarray(4) })
  }
  return found
}

/** As it stands there, and as it was before it was packed for transport, for a page or for JSON. */
function* forms(text: string): Generator<string> {
  for (const one of [text, ...carried(text)]) {
    yield one
    yield* written(one)
  }
}

function* carried(text: string): Generator<string> {
  if (/=(?:\r?\n|3D|E2=80=94)/.test(text)) {
    // RFC 2045 section 6.7: soft line breaks go, =XX is one byte.
    const bytes = text.replace(/=[ \t]*\r?\n/g, '').replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    yield bytes
  }
  // RFC 2045 section 6.8: a mail whose text is not ASCII often goes as base64 in lines of at most 76.
  for (const [block] of text.matchAll(/(?:^[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{0,76}={0,2}/gm)) {
    const inside = Buffer.from(block, 'base64').toString('utf8')
    if (inside.includes('cordon-audit')) yield inside
  }
  if (text.includes('c\0o\0r\0d\0o\0n\0')) yield text.replaceAll('\0', '') // UTF-16, as a Windows shell redirects; what is looked for is ASCII
}

function* written(text: string): Generator<string> {
  if (text.includes('\\')) {
    yield text.replace(/\\u([0-9A-Fa-f]{4})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))).replaceAll('\\/', '/').replaceAll('\\\\n', '\n').replaceAll('\\n', '\n').replaceAll('\\r', '')
  }
  if (/&#(?:[0-9]|x[0-9a-f])/i.test(text)) {
    yield text.replace(/&#(?:([0-9]{1,5})|[xX]([0-9A-Fa-f]{1,4}));/g, (_, digits: string | undefined, hex = '') => String.fromCodePoint(digits === undefined ? Number.parseInt(hex, 16) : Number(digits)))
  }
}

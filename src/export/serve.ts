import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import * as z from 'zod'
import { Link, type LinkOptions, type Target } from './link.ts'
import { framed, JOURNAL_PREAMBLE, journalLine, syslogMessage } from './message.ts'

const TARGET = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('unix'), path: z.string() }),
  z.strictObject({ kind: z.literal('tcp'), host: z.string(), port: z.int() }),
  z.strictObject({ kind: z.literal('tls'), host: z.string(), port: z.int(), ca: z.string().nullable() }),
])

/** The first frame on stdin. */
const EXPORT_ORDER = z.strictObject({ form: z.enum(['syslog', 'journal']), host: z.string().max(255), target: TARGET })

/** Frames on stdin: 4 bytes of length, then an order or whole lines of the log. The launcher's own; still bounded. */
const MAX_FRAME_BYTES = 8 * 1024 * 1024
/** Sent at once; after a failure this much may arrive twice. */
const PIECE_BYTES = 64 * 1024
/** One per frame whose bytes the kernel took. The launcher counts them and reads nothing into them. */
const TAKEN = Buffer.from('.')

/**
 * The whole life of an exporter: one order, then blocks of the log, each answered with one byte once it is out. It reads no further
 * than it can send, so whoever feeds it through a pipe is held back and nothing is stored here.
 */
export async function serveExport(input: Readable, output: Writable, options: Pick<LinkOptions, 'trouble'> & Partial<LinkOptions>, signal: AbortSignal): Promise<void> {
  const frames = framesOf(input)
  const first = await frames.next()
  if (first.done === true) return
  const order = EXPORT_ORDER.parse(JSON.parse(first.value.toString('utf8')))
  const journal = order.form === 'journal'
  const link = new Link({ ...options, target: order.target satisfies Target, preamble: journal ? JOURNAL_PREAMBLE : Buffer.alloc(0) })
  try {
    for await (const block of frames) {
      for (const piece of pieces(block, journal ? journalLine : (line) => framed(syslogMessage(line, order.host)))) await link.send(piece, signal)
      if (!output.write(TAKEN)) await once(output, 'drain', { signal })
    }
    await link.end()
  } finally {
    link.close()
  }
}

function* pieces(block: Buffer, form: (line: string) => Buffer): Generator<Buffer> {
  let waiting: Buffer[] = []
  let size = 0
  for (let from = 0; from < block.length; ) {
    const newline = block.indexOf(0x0a, from)
    const to = newline < 0 ? block.length : newline
    if (to > from) {
      const message = form(block.toString('utf8', from, to))
      waiting.push(message)
      size += message.length
    }
    if (size >= PIECE_BYTES) {
      yield Buffer.concat(waiting)
      waiting = []
      size = 0
    }
    from = to + 1
  }
  if (size > 0) yield Buffer.concat(waiting)
}

async function* framesOf(input: Readable): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0)
  let parts: Buffer[] = []
  let have = 0
  for await (const chunk of input as AsyncIterable<Buffer>) {
    parts.push(chunk)
    have += chunk.length
    while (rest.length + have >= 4) {
      if (rest.length < 4 || parts.length > 0 && rest.length + have >= needed(rest)) {
        rest = Buffer.concat([rest, ...parts])
        parts = []
        have = 0
      }
      const need = needed(rest)
      if (rest.length < need) break
      yield rest.subarray(4, need)
      rest = rest.subarray(need)
    }
  }
}

function needed(bytes: Buffer): number {
  const length = bytes.readUInt32BE(0)
  if (length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${length} bytes`)
  return 4 + length
}

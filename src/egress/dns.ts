import { decode, encode, type OptAnswer, type Packet } from 'dns-packet'
import type { HostName } from '../base/host-name.ts'
import { nameFromLabels } from './names.ts'
import { Rate } from './rate.ts'
import type { ReasonCode } from './reasons.ts'
import type { SyntheticPool } from './synthetic.ts'

/** What is asked of the rules: may this run look up the name? */
export type NameVerdict = { readonly allowed: true } | { readonly allowed: false; readonly code: ReasonCode; readonly say: string }

/** A refused question, for the record. `name` and `type` are printable. */
export interface DnsRefusal {
  readonly name: string
  readonly type: string
  readonly code: ReasonCode
  readonly say: string
}

export interface DnsOptions {
  readonly pool: SyntheticPool
  readonly judge: (name: HostName) => NameVerdict
  /** Called for each refusal; the caller coalesces. */
  readonly refused: (refusal: DnsRefusal) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly reason: (code: ReasonCode) => string
}

/** Names never move within a run, so the answer could live longer; a short life lets a changed policy show soon. */
export const TTL_SECONDS = 10
/** A question is at most 12 + 255 + 4 bytes; with EDNS options (cookie, padding to 468) far below this. */
export const MAX_QUERY_BYTES = 1232

/** Browsers and package managers ask in bursts of hundreds; a flood is beyond that. */
const QUERIES = { burst: 2000, perSecond: 500 }
/** New names of wildcard or `public` rules: each could carry a label of the plugin's choice out, when it connects. */
const NEW_NAMES = { burst: 500, perSecond: 20 }

const RCODE = { noError: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4, refused: 5 } as const
const FLAG = { response: 1 << 15, recursionDesired: 1 << 8, recursionAvailable: 1 << 7 } as const
const OPCODE_MASK = 0x7800
const TYPE_A = 1
const CLASS_IN = 1

interface Question {
  readonly labels: readonly Buffer[]
  readonly type: number
  readonly class: number
  readonly end: number
}

/**
 * Answers the DNS questions of one run, all of them itself: a name that the rules allow gets its synthetic address, every other one does not
 * exist, and nothing is ever forwarded, so no question carries anything out of the sealed namespace. Pure but for the pool
 * and its two rates; memory does not grow with the questions.
 */
export class RunDns {
  readonly #options: DnsOptions
  readonly #queries = new Rate(QUERIES.burst, QUERIES.perSecond)
  readonly #newNames = new Rate(NEW_NAMES.burst, NEW_NAMES.perSecond)
  answered = 0
  dropped = 0

  constructor(options: DnsOptions) {
    this.#options = options
  }

  /**
   * @param message one DNS message without TCP framing; attacker-controlled
   * @returns the reply; null where none is due (not a question, or more than honest programs ask)
   */
  answer(message: Buffer): Buffer | null {
    // A reply to a reply could loop for ever between two sockets.
    if (message.length < 12 || (message.readUInt16BE(2) & FLAG.response) !== 0) {
      this.#refuse('', '', 'query-refused')
      return null
    }
    if (!this.#queries.take(this.#options.now())) {
      this.drop()
      return null
    }
    this.answered += 1
    const flags = message.readUInt16BE(2)
    if ((flags & OPCODE_MASK) !== 0) return this.#bare(message, RCODE.notImp)
    // Counted before anything is decoded: a question has one name and, with EDNS or TSIG, at most two more records.
    const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => message.readUInt16BE(at))
    if (message.length > MAX_QUERY_BYTES || questions !== 1 || answers !== 0 || authorities !== 0 || (additionals ?? 0) > 2) return this.#bare(message, RCODE.formErr)
    const question = readQuestion(message)
    if (question === null) return this.#bare(message, RCODE.formErr)
    const packet = tryDecode(message)
    if (packet === null) return this.#bare(message, RCODE.formErr)

    const opt = packet.additionals?.find((record) => record.type === 'OPT')
    if (opt !== undefined && opt.ednsVersion !== 0) return this.#reply(message, packet, RCODE.noError, [], opt, 1) // BADVERS is 16, RFC 6891 section 6.1.3
    if (question.class !== CLASS_IN) {
      this.#refuse(shownName(question), typeName(packet), 'query-refused')
      return this.#reply(message, packet, RCODE.refused, [], opt)
    }
    const { rcode, address } = this.#judge(question, packet)
    const name = packet.questions?.[0]?.name ?? ''
    return this.#reply(message, packet, rcode, address === null ? [] : [{ type: 'A', class: 'IN', name, ttl: TTL_SECONDS, data: address }], opt)
  }

  /** A question for which there was no room. */
  drop(): void {
    this.dropped += 1
    this.#refuse('', '', 'too-many-queries')
  }

  /** A TCP connection to the resolver that ends before its questions are answered. */
  cut(code: Extract<ReasonCode, 'too-many-streams' | 'query-refused'>): void {
    this.#refuse('', '', code)
  }

  #judge(question: Question, packet: Packet): { readonly rcode: number; readonly address: string | null } {
    const host = nameFromLabels(question.labels)
    const type = typeName(packet)
    if (host.kind !== 'name') {
      this.#refuse(shownName(question), type, 'name-malformed')
      return { rcode: RCODE.nxDomain, address: null }
    }
    const verdict = this.#options.judge(host.name)
    if (!verdict.allowed) {
      this.#options.refused({ name: host.name, type, code: verdict.code, say: verdict.say })
      return { rcode: RCODE.nxDomain, address: null }
    }
    // The name exists and has no such data: AAAA, HTTPS, SVCB would lead past the address that stands for the name.
    if (question.type !== TYPE_A) return { rcode: RCODE.noError, address: null }
    const { pool } = this.#options
    if (!pool.has(host.name) && !this.#newNames.take(this.#options.now())) {
      this.#refuse(host.name, type, 'too-many-queries')
      return { rcode: RCODE.servFail, address: null }
    }
    const address = pool.addressOf(host.name)
    if (address === null) {
      this.#refuse(host.name, type, 'names-exhausted')
      return { rcode: RCODE.servFail, address: null }
    }
    return { rcode: RCODE.noError, address }
  }

  #refuse(name: string, type: string, code: ReasonCode): void {
    this.#options.refused({ name, type, code, say: this.#options.reason(code) })
  }

  /** Header only: the question could not be read, or is not worth repeating. */
  #bare(message: Buffer, rcode: number): Buffer {
    this.#refuse('', '', 'query-refused')
    const reply = Buffer.alloc(12)
    reply.writeUInt16BE(message.readUInt16BE(0), 0)
    reply.writeUInt16BE(FLAG.response | (message.readUInt16BE(2) & (OPCODE_MASK | FLAG.recursionDesired)) | FLAG.recursionAvailable | rcode, 2)
    return reply
  }

  #reply(message: Buffer, packet: Packet, rcode: number, answers: NonNullable<Packet['answers']>, opt: OptAnswer | undefined, extendedRcode = 0): Buffer {
    const flags = (message.readUInt16BE(2) & FLAG.recursionDesired) | FLAG.recursionAvailable | rcode
    const additionals: OptAnswer[] = opt === undefined ? [] : [{ type: 'OPT', name: '.', udpPayloadSize: MAX_QUERY_BYTES, extendedRcode, ednsVersion: 0, flags: 0, flag_do: false, options: [] }]
    return encode({ type: 'response', id: message.readUInt16BE(0), flags, questions: packet.questions ?? [], answers, additionals })
  }
}

/**
 * The question as it stands on the wire. dns-packet joins labels by dots and decodes them as UTF-8, so a label that holds a dot would look
 * like two; therefore the labels are taken from the bytes. A compressed name (a pointer can only lead into the header) and
 * bytes that a reply could not repeat exactly give null.
 */
function readQuestion(message: Buffer): Question | null {
  const labels: Buffer[] = []
  let at = 12
  for (;;) {
    const length = message[at]
    if (length === undefined || length > 63) return null
    at += 1
    if (length === 0) break
    const label = message.subarray(at, at + length)
    if (label.length < length || label.some((byte) => byte < 0x21 || byte > 0x7e || byte === 0x2e)) return null
    labels.push(label)
    at += length
    if (at - 12 > 254) return null
  }
  if (message.length < at + 4) return null
  return { labels, type: message.readUInt16BE(at), class: message.readUInt16BE(at + 2), end: at + 4 }
}

/** @returns null for what dns-packet cannot read, and for bytes behind the message */
function tryDecode(message: Buffer): (Packet & { readonly additionals?: Packet['additionals'] }) | null {
  try {
    const packet = decode(message)
    return decode.bytes === message.length ? packet : null
  } catch {
    return null // hostile bytes; the caller answers FORMERR
  }
}

/** dns-packet does not know the two that browsers ask for first; others are written as in RFC 3597 section 5. */
function typeName(packet: Packet): string {
  const type: string = packet.questions?.[0]?.type ?? ''
  if (type === 'UNKNOWN_64') return 'SVCB'
  return type === 'UNKNOWN_65' ? 'HTTPS' : type.replace(/^UNKNOWN_/, 'TYPE')
}

/** Its bytes are printable ASCII by readQuestion. */
function shownName({ labels }: Question): string {
  return labels.map((label) => label.toString('latin1')).join('.') || '.'
}

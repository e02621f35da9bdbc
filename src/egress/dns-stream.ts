/** Bytes of one TCP connection to DNS messages (RFC 1035 section 4.2.2: two bytes of length before each). */
export class DnsFrames {
  readonly #max: number
  #held = Buffer.alloc(0)

  /** @param max longest message; a longer one ends the stream */
  constructor(max: number) {
    this.#max = max
  }

  /** @returns the whole messages so far, or null when the stream is over */
  feed(bytes: Buffer): Buffer[] | null {
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes])
    const messages: Buffer[] = []
    let at = 0
    while (all.length - at >= 2) {
      const length = all.readUInt16BE(at)
      if (length > this.#max) return null
      if (all.length - at - 2 < length) break
      messages.push(all.subarray(at + 2, at + 2 + length))
      at += 2 + length
    }
    this.#held = Buffer.from(all.subarray(at)) // at most 2 + max bytes
    return messages
  }
}

export function frameMessage(message: Buffer): Buffer {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(message.length)
  return Buffer.concat([head, message])
}

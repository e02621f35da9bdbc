import { Transform, type TransformCallback } from 'node:stream'

/**
 * Frames on a socketpair or the control socket: u32 big-endian length of what follows, u8 kind, payload.
 * Kind 0 is one JSON message; kind 1 is u32 stream number and opaque bytes (a plugin's stdout on its way to the gateway).
 */
export type Frame = { readonly kind: 'message'; readonly value: unknown } | { readonly kind: 'data'; readonly stream: number; readonly bytes: Buffer }

/** Longest frame either side accepts; a longer one ends the connection. Data chunks are 64 KiB at most, messages far smaller. */
export const MAX_FRAME_BYTES = 256 * 1024
export const MAX_CHUNK_BYTES = 64 * 1024

const KIND_MESSAGE = 0
const KIND_DATA = 1

class FrameError extends Error {}

export function encodeMessage(value: unknown): Buffer {
  const json = Buffer.from(JSON.stringify(value))
  return seal(KIND_MESSAGE, json)
}

export function encodeData(stream: number, bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(stream)
  return seal(KIND_DATA, Buffer.concat([head, bytes]))
}

function seal(kind: number, payload: Buffer): Buffer {
  if (payload.length + 1 > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${payload.length + 1} bytes is over the limit of ${MAX_FRAME_BYTES}`)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(payload.length + 1)
  head.writeUInt8(kind, 4)
  return Buffer.concat([head, payload])
}

/** Bytes in, frames out. Holds at most one frame; anything malformed is an error, which ends the stream. */
export class FrameReader extends Transform {
  #held: Buffer[] = []
  #size = 0

  constructor() {
    super({ readableObjectMode: true, readableHighWaterMark: 16 })
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#held.push(chunk)
    this.#size += chunk.length
    try {
      for (let frame = this.#take(); frame !== null; frame = this.#take()) this.push(frame)
      done()
    } catch (error) {
      done(error instanceof Error ? error : new FrameError(String(error)))
    }
  }

  override _flush(done: TransformCallback): void {
    done(this.#size === 0 ? null : new FrameError(`the peer closed in the middle of a frame (${this.#size} bytes of it)`))
  }

  #take(): Frame | null {
    if (this.#size < 5) return null
    let all = this.#held.length === 1 ? this.#held[0] : undefined
    if (all === undefined) {
      all = Buffer.concat(this.#held)
      this.#held = [all]
    }
    const length = all.readUInt32BE(0)
    if (length < 1 || length > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${length} bytes; 1 to ${MAX_FRAME_BYTES} are accepted`)
    if (all.length < 4 + length) return null
    const kind = all.readUInt8(4)
    const payload = all.subarray(5, 4 + length)
    this.#size -= 4 + length
    this.#held = this.#size > 0 ? [all.subarray(4 + length)] : []
    if (kind === KIND_MESSAGE) return { kind: 'message', value: JSON.parse(payload.toString('utf8')) as unknown }
    if (kind === KIND_DATA && payload.length >= 4) return { kind: 'data', stream: payload.readUInt32BE(0), bytes: Buffer.from(payload.subarray(4)) }
    throw new FrameError(`a frame of unknown kind ${kind}`)
  }
}

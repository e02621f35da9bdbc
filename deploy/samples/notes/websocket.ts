import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

/** RFC 6455 section 1.3. */
const HANDSHAKE_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024
const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 }

export interface WebSocketConnection {
  onText: (text: string) => void
  onClose: () => void
  readonly closed: boolean
  sendText(text: string): void
}

/** The server half of RFC 6455 that a channel needs: text both ways, ping answered, close. Null: not a WebSocket request. */
export function acceptWebSocket(request: IncomingMessage, socket: Duplex): WebSocketConnection | null {
  const key = request.headers['sec-websocket-key']
  if (request.headers.upgrade?.toLowerCase() !== 'websocket' || request.headers['sec-websocket-version'] !== '13' || key === undefined) return null
  const accept = createHash('sha1').update(key + HANDSHAKE_SUFFIX).digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`)

  const connection = { onText: (_text: string) => {}, onClose: () => {}, closed: false, sendText: (text: string) => void socket.write(frame(OPCODE.text, Buffer.from(text))) }
  let buffered = Buffer.alloc(0)
  let message: Buffer[] = []
  let messageBytes = 0
  let isText = false

  function end(): void {
    if (connection.closed) return
    connection.closed = true
    socket.destroy()
    connection.onClose()
  }

  function handle(opcode: number, final: boolean, payload: Buffer): void {
    if (opcode === OPCODE.close) return end()
    if (opcode === OPCODE.ping) return void socket.write(frame(OPCODE.pong, payload))
    if (opcode === OPCODE.pong) return
    if (opcode !== OPCODE.continuation) {
      message = []
      messageBytes = 0
      isText = opcode === OPCODE.text
    }
    message.push(payload)
    messageBytes += payload.length
    if (messageBytes > MESSAGE_MAX_BYTES) return end()
    if (final && isText) connection.onText(Buffer.concat(message).toString('utf8'))
  }

  socket.on('data', (chunk: Buffer) => {
    buffered = Buffer.concat([buffered, chunk])
    for (;;) {
      const parsed = readFrame(buffered)
      if (parsed === 'more') return
      if (parsed === 'invalid') return end()
      buffered = buffered.subarray(parsed.size)
      handle(parsed.opcode, parsed.final, parsed.payload)
      if (connection.closed) return
    }
  })
  socket.on('close', end)
  return connection
}

/** One client frame, RFC 6455 section 5.2: clients mask, and this server accepts no extension bits. */
function readFrame(bytes: Buffer): { opcode: number; final: boolean; payload: Buffer; size: number } | 'more' | 'invalid' {
  if (bytes.length < 2) return 'more'
  const first = bytes.readUInt8(0)
  const second = bytes.readUInt8(1)
  if ((first & 0x70) !== 0 || (second & 0x80) === 0) return 'invalid'
  let length = second & 0x7f
  let at = 2
  if (length === 126) {
    if (bytes.length < 4) return 'more'
    length = bytes.readUInt16BE(2)
    at = 4
  } else if (length === 127) {
    if (bytes.length < 10) return 'more'
    const long = bytes.readBigUInt64BE(2)
    if (long > BigInt(MESSAGE_MAX_BYTES)) return 'invalid'
    length = Number(long)
    at = 10
  }
  if (bytes.length < at + 4 + length) return 'more'
  const mask = bytes.subarray(at, at + 4)
  const payload = Buffer.from(bytes.subarray(at + 4, at + 4 + length))
  for (let i = 0; i < payload.length; i++) payload.writeUInt8(payload.readUInt8(i) ^ mask.readUInt8(i % 4), i)
  return { opcode: first & 0x0f, final: (first & 0x80) !== 0, payload, size: at + 4 + length }
}

function frame(opcode: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(payload.length < 126 ? 2 : payload.length < 65_536 ? 4 : 10)
  head.writeUInt8(0x80 | opcode, 0)
  if (head.length === 2) head.writeUInt8(payload.length, 1)
  else if (head.length === 4) head.writeUInt16BE(payload.length, head.writeUInt8(126, 1))
  else head.writeBigUInt64BE(BigInt(payload.length), head.writeUInt8(127, 1))
  return Buffer.concat([head, payload])
}

/**
 * A short unprivileged process that asks one witness for its cosignature (c2sp.org/tlog-witness): `push.cjs REQUEST`, REQUEST
 * being JSON {url, key, old, proof, checkpoint}. It alone reads what the network wrote. Ends with
 * 0 and prints the checkpoint with the cosignature; 9 and prints the size that the witness asks for; 8 and says what the
 * witness holds against this log; 1 and says what went wrong.
 */
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import { printable } from '../base/printable.ts'
import { cosignedAt, parseCheckpoint, parseSignature, parseVerifierKey } from '../audit/verify/note.ts'

const TIMEOUT_MS = 15_000
const MAX_ANSWER_BYTES = 8 * 1024

interface PushRequest {
  readonly url: string
  readonly key: string
  readonly old: number
  /** Base64. */
  readonly proof: readonly string[]
  readonly checkpoint: string
}

async function main(text: string): Promise<void> {
  const { url, key, old, proof, checkpoint } = JSON.parse(text) as PushRequest
  const { status, body } = await post(`${url.replace(/\/$/, '')}/add-checkpoint`, `old ${old}\n${proof.map((one) => `${one}\n`).join('')}\n${checkpoint}`)
  const own = parseCheckpoint(checkpoint)
  const witness = parseVerifierKey(key)
  if (own === null || witness === null) return end(1, 'the checkpoint or the key of the witness is malformed')
  if (status === 409) {
    if (!/^[0-9]{1,15}\n$/.test(body)) return end(1, 'it answered 409 without a size')
    const size = Number(body)
    if (size > own.size) return end(8, `it has seen ${size} records of this log, which now has ${own.size}: the log was put back to an older state, or cut`)
    if (size === old) return end(8, `it has seen another history of the same ${size} records`)
    return end(9, body)
  }
  if (status === 422) return end(8, 'it says that this log does not continue what it has seen')
  if (status !== 200) return end(1, `it answered ${status}: ${body}`)
  const lines = body.split('\n').slice(0, 16).filter((line) => {
    const signature = parseSignature(line)
    return signature !== null && cosignedAt({ text: own.text, signatures: [signature] }, witness) !== null
  })
  if (lines.length === 0) return end(1, 'its answer holds no cosignature of the key that is configured for it')
  return end(0, `${checkpoint}${lines.map((line) => `${line}\n`).join('')}`)
}

function post(url: string, body: string): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const send = url.startsWith('https:') ? requestHttps : requestHttp
    const request = send(url, { method: 'POST', headers: { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) }, maxHeaderSize: 8 * 1024, signal: AbortSignal.timeout(TIMEOUT_MS), agent: false }, (response: IncomingMessage) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > MAX_ANSWER_BYTES) request.destroy(new Error(`it answered more than ${MAX_ANSWER_BYTES} bytes`))
        else chunks.push(chunk)
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end(body)
  })
}

function end(status: 0 | 1 | 8 | 9, text: string): void {
  if (status === 0 || status === 9) process.stdout.write(text)
  else process.stderr.write(printable(text.trim(), 300))
  process.exitCode = status
}

main(process.argv[2] ?? '').catch((error: unknown) => end(1, error instanceof Error ? error.message : String(error)))

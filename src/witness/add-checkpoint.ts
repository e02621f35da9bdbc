import { parseCheckpoint, signedBy, strictBase64, type Checkpoint, type VerifierKey } from '../audit/verify/note.ts'
import { consistent, MAX_PROOF_HASHES } from '../audit/verify/proof.ts'
import { fromHex } from '../audit/verify/tree.ts'

/** The newest checkpoint that was cosigned for a log. */
export interface Seen {
  readonly size: number
  /** Hex. */
  readonly root: string
}

export type Decision =
  | { readonly kind: 'cosign'; readonly checkpoint: Checkpoint }
  /** c2sp.org/tlog-witness, "add-checkpoint": with `size`, what was cosigned last. `alarm`: the log itself signed what must not be. */
  | { readonly kind: 'refuse'; readonly status: 400 | 403 | 404 | 409 | 422; readonly say: string; readonly size: number | null; readonly alarm: Checkpoint | null }

const BODY = /^old (0|[1-9][0-9]{0,15})\n((?:[A-Za-z0-9+/]{43}=\n)*)\n([\s\S]+)$/

/**
 * One request, decided. Pure: what is remembered comes in, and is replaced by the caller before the answer leaves.
 * @param body attacker-controlled, bounded by the caller
 * @param logs keys of the logs that this witness knows, by origin
 */
export function decide(body: string, logs: ReadonlyMap<string, readonly VerifierKey[]>, seen: (origin: string) => Seen | null): Decision {
  const match = BODY.exec(body)
  const checkpoint = parseCheckpoint(match?.[3] ?? '')
  const proof = (match?.[2] ?? '').split('\n').slice(0, -1).map(strictBase64)
  const old = Number(match?.[1])
  if (match === null || checkpoint === null || !Number.isSafeInteger(old) || proof.length > MAX_PROOF_HASHES || proof.some((one) => one?.length !== 32)) return refuse(400, 'the body is not as c2sp.org/tlog-witness says')
  const keys = logs.get(checkpoint.origin)
  if (keys === undefined) return refuse(404, 'this log is not known here')
  if (!keys.some(({ name, key }) => signedBy(checkpoint, name, key))) return refuse(403, 'no known key signed the checkpoint')
  if (old > checkpoint.size) return refuse(400, 'the old size is larger than that of the checkpoint')
  const last = seen(checkpoint.origin) ?? { size: 0, root: null }
  // A signed one for fewer records is late or a replay, or the log was put back: who sent it learns the size and can tell.
  if (old !== last.size) return refuse(409, 'another size was cosigned last', last.size)
  if (last.root !== null && checkpoint.size === last.size) return checkpoint.root === last.root ? { kind: 'cosign', checkpoint } : refuse(409, 'another root was cosigned for this size', last.size, checkpoint)
  const hashes = proof.map((one) => one?.toString('latin1') ?? '')
  const follows = last.root === null ? hashes.length === 0 : consistent(last.size, fromHex(last.root), checkpoint.size, fromHex(checkpoint.root), hashes)
  return follows ? { kind: 'cosign', checkpoint } : refuse(422, 'the consistency proof does not verify', null, last.root === null ? null : checkpoint)
}

function refuse(status: 400 | 403 | 404 | 409 | 422, say: string, size: number | null = null, alarm: Checkpoint | null = null): Decision {
  return { kind: 'refuse', status, say, size, alarm }
}

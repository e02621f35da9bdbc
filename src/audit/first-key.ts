import { absent, type PrivateDir } from './private-dir.ts'
import { firstHead } from './record-head.ts'
import { segmentName } from './segments.ts'

/** The first record of the log tells its first key. @returns hex, or null before it was written */
export async function readFirstKey(top: PrivateDir, records: PrivateDir): Promise<string | null> {
  for (const [dir, name] of [[records, segmentName(0)], [top, 'seals.jsonl']] as const) {
    const file = await dir.openAppend(name, false).catch(absent) // pruned, or nothing pruned yet
    if (file === null) continue
    try {
      const head = await firstHead(file)
      if (head?.type === 'log.created' && typeof head.data['first_key'] === 'string') return head.data['first_key']
    } finally {
      await file.close()
    }
  }
  return null
}

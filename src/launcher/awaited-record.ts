import type { AuditSink, LauncherEvent } from '../audit/record.ts'
import { CordonError } from '../errors.ts'

/**
 * A record that must be durable before what follows. A stop does not wait for the disk.
 * @param signal the stop
 * @throws CordonError LAUNCH_STATE when it came; what `append` throws
 */
export async function recordedBefore(audit: AuditSink, event: LauncherEvent, signal: AbortSignal): Promise<void> {
  const stopped = Promise.withResolvers<never>()
  const onStop = (): void => stopped.reject(new CordonError('LAUNCH_STATE', 'stopped before it began'))
  if (signal.aborted) onStop()
  signal.addEventListener('abort', onStop, { once: true })
  const durable = audit.append(event, 'launcher')
  durable.catch(() => {}) // after a stop nobody waits for it any more
  try {
    await Promise.race([stopped.promise, durable])
  } finally {
    signal.removeEventListener('abort', onStop)
  }
}

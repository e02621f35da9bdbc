import { serveExport } from './export/serve.ts'

/**
 * One exporter of audit records, without privileges and files: takes an order and blocks of the log from the launcher on stdin, and speaks to one
 * syslog server or to journald. What answers there is hostile, and the launcher never sees it.
 */
const ending = new AbortController()
process.on('SIGTERM', () => ending.abort())
let told = ''
const trouble = (text: string): void => {
  if (text !== told) process.stderr.write(`${text}\n`)
  told = text
}
serveExport(process.stdin, process.stdout, { trouble }, ending.signal).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(ending.signal.aborted ? 0 : 70)
  },
)

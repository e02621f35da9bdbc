import { accessSync, constants } from 'node:fs'

/**
 * Whether kernel tests can run here: root, and the programs they start. What is missing is printed, so a skip has its reason;
 * under KERNEL_TESTS=required it is an error instead. Use: `describe.skipIf(!canRun('/usr/sbin/runc'))`.
 */
export function canRun(...programs: readonly string[]): boolean {
  const missing = [
    ...(process.getuid?.() === 0 ? [] : ['root']),
    ...programs.filter((program) => !isExecutable(program)),
  ]
  if (missing.length === 0) return true
  const reason = `kernel tests need ${missing.join(', ')}`
  if (process.env['KERNEL_TESTS'] === 'required') throw new Error(reason)
  console.warn(`skipped: ${reason}`)
  return false
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false // absent or not executable: for the caller both mean that it cannot be started
  }
}

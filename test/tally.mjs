// tally.mjs REPORT STATUS: vitest's JSON report -> "passed failed skipped". A run that ended badly has at least one failure:
// a file that did not load has no tests in the report, and a killed run has no report at all.
import { readFileSync } from 'node:fs'

const [file, status] = process.argv.slice(2)
const report = (() => {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    return { numPassedTests: 0, numFailedTests: 1, numPendingTests: 0, numTodoTests: 0, testResults: [] }
  }
})()
const broken = report.testResults.filter((result) => result.status === 'failed' && !result.assertionResults.some((test) => test.status === 'failed'))
const failed = Math.max(report.numFailedTests + broken.length, status === '0' ? 0 : 1)
// The names again, where somebody who sees only the end of a long output finds them.
for (const { name, assertionResults } of report.testResults) {
  for (const test of assertionResults) if (test.status === 'failed') console.error(`FAILED: ${name}: ${test.fullName}: ${String(test.failureMessages?.[0]).slice(0, 600)}`)
}
for (const { name, message } of broken) console.error(`FAILED: ${name}: ${String(message).slice(0, 600)}`)
console.log(report.numPassedTests, failed, report.numPendingTests + report.numTodoTests)

import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { parsePolicy } from '../../src/policy/parse.ts'
import { DEFAULT_OWN_PLACES } from '../../src/policy/paths.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

const DIRECTORY = resolve('deploy/samples/policies')

/** The warnings that are meant: a directory's hash depends on the checkout, and clock is too old to ask for what it is given. */
const WARNED: Readonly<Record<string, readonly string[]>> = {
  'notes.yaml': ['executable.sha256'], 'hostile.yaml': ['executable.sha256'], 'clock.yaml': ['api.legacy'], 'count.yaml': [],
}

test.each(readdirSync(DIRECTORY))('the policy template %s is a policy without problems once it is filled in', (name) => {
  const template = readFileSync(join(DIRECTORY, name), 'utf8')
  const text = template.replaceAll('@PLUGINS@', '/var/lib/cordon/plugins').replaceAll('@NODE@', '/opt/node').replaceAll('@SHA256@', 'ab'.repeat(32))
  const parsed = parsePolicy(text, name, DEFAULT_OWN_PLACES)
  expect(parsed.warnings.map(({ message }) => message)).toEqual((WARNED[name] ?? []).map((about) => expect.stringContaining(about) as string))
  const policy = resolvePolicy(parsed, [])
  expect(`${policy.plugin}.yaml`).toBe(name)
  expect(policy.read).toEqual([])
  expect(policy.sockets).toEqual([])
})

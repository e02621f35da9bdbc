import type { Egress } from '../../src/base/egress-rule.ts'
import { parsePolicy } from '../../src/policy/parse.ts'
import { resolvePolicy } from '../../src/policy/resolve.ts'

/** Rules as an operator writes them, through the real compiler. @param allow YAML list items, indented by four, or ' []' */
export function egressOf(allow: string, head = ''): Egress {
  return resolvePolicy(parsePolicy(`plugin: demo\nexecutable: { path: /opt/demo }\negress:\n${head}  allow:${allow}\n`, 'demo.yaml'), []).egress
}

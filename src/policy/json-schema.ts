import * as z from 'zod'
import { DEFAULT_OWN_PLACES } from './paths.ts'
import { policySchema, presetSchema } from './schema.ts'

/**
 * The published schemas, as text of policies/*.schema.json: for an editor's completion and first checks. They say less than
 * `cordon policy check` does (bounds of units, refused paths, what two fields say together).
 * Draft 7, because yaml-language-server knows it best.
 */
export function jsonSchemaText(which: 'policy' | 'preset'): string {
  const schema = which === 'policy' ? policySchema(DEFAULT_OWN_PLACES) : presetSchema(DEFAULT_OWN_PLACES)
  const document = { title: `Cordon ${which}`, ...z.toJSONSchema(schema, { target: 'draft-7', io: 'input', unrepresentable: 'throw' }) }
  return `${JSON.stringify(document, null, 2)}\n`
}

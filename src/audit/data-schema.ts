import * as z from 'zod'
import type { CatalogueRow } from './catalogue.ts'
import { HASHED } from './secret.ts'

/** Members of the record itself; the event's other fields are its `data`. */
const OF_THE_RECORD = new Set(['plugin', 'run', 'policyDigest'])

/** `data` as it stands in a record of this type, as long as nothing had to be cut (then `~cut` stands in it, entry.ts). */
export function dataSchema({ fields, secret }: CatalogueRow): z.ZodObject {
  const shape = Object.entries(fields.shape).filter(([name]) => !OF_THE_RECORD.has(name))
  return z.strictObject(Object.fromEntries(shape.map(([name, field]) => [name, secret.has(name) ? hashed(field) : field])))
}

/** The same shape with a keyed hash for each value. */
function hashed(field: z.core.$ZodType): z.ZodType {
  const schema = hashedShape(field)
  const description = field instanceof z.ZodType ? field.description : undefined
  return description === undefined ? schema : schema.describe(description)
}

function hashedShape(field: z.core.$ZodType): z.ZodType {
  if (field instanceof z.ZodOptional) return z.optional(hashed(field.unwrap()))
  if (field instanceof z.ZodNullable) return z.nullable(hashed(field.unwrap()))
  if (field instanceof z.ZodReadonly) return hashed(field.unwrap())
  const hash = z.string().regex(HASHED)
  return field instanceof z.ZodArray ? z.array(hash) : hash
}

/** Whether a record of this type names a plugin, run or policy: always, sometimes or never. */
export function presence({ fields }: CatalogueRow, member: 'plugin' | 'run' | 'policyDigest'): 'always' | 'sometimes' | 'never' {
  const field = fields.shape[member]
  return field === undefined ? 'never' : field instanceof z.ZodOptional ? 'sometimes' : 'always'
}

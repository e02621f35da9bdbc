import * as z from 'zod'
import { CATALOGUE, type CatalogueRow } from './catalogue.ts'
import { dataSchema, presence } from './data-schema.ts'

const LABELS = { plugin: 'plugin', run: 'run', policy: 'policyDigest' } as const

/**
 * The published schema of one line of the log, as text of policies/record.schema.json. It says less than FORMAT.md: nothing of the chain,
 * nothing of canonical form. Lengths are not in it, because escaping makes untrusted texts longer than what was taken in.
 */
export function recordSchemaText(): string {
  const hash = { type: 'string', pattern: '^[0-9a-f]{64}$' }
  const document = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Cordon audit record',
    type: 'object',
    properties: {
      boot: { type: 'string', description: 'Boot id of the machine' },
      class_uid: { type: 'integer', description: 'Class of OCSF' },
      data: { type: 'object', description: 'What the type says; see $defs' },
      mono_ms: { type: 'integer', minimum: 0, description: 'CLOCK_MONOTONIC of that boot, in milliseconds' },
      origin: { enum: ['launcher', 'gateway', 'door', 'operator', 'run'], description: 'Who asked for the record; the launcher wrote it. `run`: a `cordon run` beside the daemon' },
      plugin: { type: ['string', 'null'], description: 'Name of the plugin' },
      policy: { type: ['string', 'null'], description: 'SHA-256 of the policy in force' },
      prev: { ...hash, description: 'Leaf hash of the record before' },
      run: { type: ['string', 'null'], description: 'Id of the run' },
      seq: { type: 'integer', minimum: 0, description: 'Place in the log, without a hole' },
      time: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$', description: 'Wall clock, UTC' },
      type: { enum: [...CATALOGUE.keys()], description: 'Type of the record' },
      v: { const: 1, description: 'Version of this format' },
    },
    required: ['boot', 'class_uid', 'data', 'mono_ms', 'origin', 'plugin', 'policy', 'prev', 'run', 'seq', 'time', 'type', 'v'],
    additionalProperties: false,
    oneOf: [...CATALOGUE].map(([type, row]) => ({
      properties: {
        type: { const: type },
        class_uid: { const: row.ocsf.uid },
        ...(row.source === 'launcher' ? {} : { origin: row.source === 'door' ? { enum: ['door', 'run'] } : { const: row.source } }),
        ...Object.fromEntries(Object.entries(LABELS).flatMap(([label, member]) => labelled(label, presence(row, member)))),
        data: { anyOf: [{ $ref: `#/$defs/${type}` }, { $ref: '#/$defs/~cut' }] },
      },
    })),
    $defs: {
      '~cut': { type: 'object', description: 'The record was too long, and less of it is kept', properties: { '~cut': { type: 'integer', minimum: 1, maximum: 5 } }, required: ['~cut'] },
      ...Object.fromEntries([...CATALOGUE].map(([type, row]) => [type, { description: row.says, ...dataJsonSchema(row) }])),
    },
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

function labelled(label: string, when: 'always' | 'sometimes' | 'never'): [string, object][] {
  return when === 'sometimes' ? [] : [[label, { type: when === 'always' ? 'string' : 'null' }]]
}

function dataJsonSchema(row: CatalogueRow): object {
  const { $schema: _, ...schema } = z.toJSONSchema(dataSchema(row), {
    io: 'output', unrepresentable: 'throw',
    override: ({ jsonSchema }) => {
      delete jsonSchema.maxLength
      delete jsonSchema.maxItems
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
    },
  })
  return schema
}

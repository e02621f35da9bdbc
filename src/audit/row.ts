import * as z from 'zod'
import type { OcsfClass } from './ocsf.ts'

/** One type of record that the launcher makes itself. */
export interface Row<S extends z.ZodRawShape = z.ZodRawShape> {
  readonly ocsf: OcsfClass
  readonly kind: 'intent' | 'outcome'
  /** One sentence: when it is written. */
  readonly says: string
  readonly fields: z.ZodObject<S, z.core.$strict>
  readonly secret: readonly string[]
}

/** The act waits until the record is durable. */
export function intent<S extends z.ZodRawShape>(ocsf: OcsfClass, says: string, shape: S, secret: readonly (keyof S & string)[] = []): Row<S> {
  return { ocsf, kind: 'intent', says, fields: z.strictObject(shape), secret }
}

/** It tells of an act that waits for nothing: stopping and tightening among them. */
export function outcome<S extends z.ZodRawShape>(ocsf: OcsfClass, says: string, shape: S, secret: readonly (keyof S & string)[] = []): Row<S> {
  return { ocsf, kind: 'outcome', says, fields: z.strictObject(shape), secret }
}

// Words that the rows are made of. Lengths are not bounded here: the launcher cuts its own texts, and the encoder all that is too long (entry.ts).
export const count = (says: string) => z.int().min(0).describe(says)
export const text = (says: string) => z.string().describe(says)
export const flag = (says: string) => z.boolean().describe(says)
/** `null` where this host has no such figure. */
export const figure = (says: string) => z.int().min(0).nullable().describe(says)
export const counts = (says: string) => z.record(z.string(), z.int().min(0)).describe(says)

/** What stands in the record itself, beside `data`. */
export const plugin = z.string()
export const run = z.string()
/** Becomes the record's `policy`. */
export const policyDigest = z.string()

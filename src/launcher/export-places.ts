import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import * as z from 'zod'

const PLACE = z.object({ segment: z.int().min(0), offset: z.int().min(0), next: z.int().min(0).nullable() })
const PLACES = z.record(z.string(), PLACE)
/** How far each sink has come in the log; `next`: the `seq` that comes after. */
export type ExportPlace = z.infer<typeof PLACE>

/** A crash sends what was written since again; nothing is lost by it. */
const SAVE_MS = 5000

export interface ExportPlaces {
  get(sink: string): ExportPlace | null
  set(sink: string, place: ExportPlace): void
  save(): void
}

/** @param file `<stateDir>/audit-export.json`; unreadable or malformed: every sink begins at the end of the log */
export function openExportPlaces(file: string, log: (message: string) => void): ExportPlaces {
  const places = new Map<string, ExportPlace>(Object.entries(read(file, log)))
  let saved = Date.now()
  const save = (): void => {
    saved = Date.now()
    try {
      writeFileSync(`${file}.new`, JSON.stringify(Object.fromEntries(places)), { mode: 0o600, flush: true })
      renameSync(`${file}.new`, file)
    } catch (error) {
      log(`how far the exports are could not be saved: ${error instanceof Error ? error.message : String(error)}`) // they go out again then
    }
  }
  return {
    get: (sink) => places.get(sink) ?? null,
    set: (sink, place) => {
      places.set(sink, place)
      if (Date.now() - saved > SAVE_MS) save()
    },
    save,
  }
}

function read(file: string, log: (message: string) => void): Record<string, ExportPlace> {
  try {
    return PLACES.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log(`how far the exports were is not known (${error instanceof Error ? error.message : String(error)}); they begin at the end of the log`)
    return {}
  }
}

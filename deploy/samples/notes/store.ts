import { DatabaseSync } from 'node:sqlite'

export interface Note {
  readonly id: number
  readonly text: string
  readonly author: string | null
  readonly created_at: string
}

export interface Store {
  list(): Note[]
  get(id: number): Note | null
  add(text: string, author: string | null): Note
  edit(id: number, text: string): Note | null
  remove(id: number): boolean
  close(): void
}

export function openStore(file: string): Store {
  const db = new DatabaseSync(file)
  db.exec(`CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, author TEXT, created_at TEXT NOT NULL
  ) STRICT`)
  const select = db.prepare('SELECT id, text, author, created_at FROM notes WHERE id = ?')
  const get = (id: number) => (select.get(id) as unknown as Note | undefined) ?? null
  return {
    list: () => db.prepare('SELECT id, text, author, created_at FROM notes ORDER BY id DESC LIMIT 500').all() as unknown as Note[],
    get,
    add(text, author) {
      const { lastInsertRowid } = db.prepare('INSERT INTO notes (text, author, created_at) VALUES (?, ?, ?)').run(text, author, new Date().toISOString())
      const note = get(Number(lastInsertRowid))
      if (note === null) throw new Error('the note just written is gone')
      return note
    },
    edit(id, text) {
      db.prepare('UPDATE notes SET text = ? WHERE id = ?').run(text, id)
      return get(id)
    },
    remove: (id) => db.prepare('DELETE FROM notes WHERE id = ?').run(id).changes > 0,
    close: () => db.close(),
  }
}

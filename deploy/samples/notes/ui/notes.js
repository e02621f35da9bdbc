const API = '/api/x/notes'
const list = document.querySelector('#notes')
const state = document.querySelector('#state')
const form = document.querySelector('#new')

async function call(path, options = {}) {
  const response = await fetch(API + path, { ...options, headers: options.body ? { 'content-type': 'application/json' } : {} })
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail ?? `HTTP ${response.status}`)
  return response.status === 204 ? null : response.json()
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

async function show() {
  const notes = await call('/notes')
  list.replaceChildren(...notes.map((note) => {
    const remove = element('button', { type: 'button', textContent: 'Delete', ariaLabel: `Delete note ${note.id}` })
    remove.addEventListener('click', () => act(() => call(`/notes/${note.id}`, { method: 'DELETE' })))
    const when = new Date(note.created_at).toLocaleString()
    return element('li', {}, element('div', {}, note.text, element('small', { textContent: note.author ? `${when}, ${note.author}` : when })), remove)
  }))
  state.textContent = notes.length === 0 ? 'No notes yet.' : ''
}

async function act(change) {
  try {
    await change()
    await show()
  } catch (error) {
    state.textContent = `That did not work: ${error.message}`
  }
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const body = JSON.stringify({ text: form.elements.text.value })
  act(async () => {
    await call('/notes', { method: 'POST', body })
    form.reset()
  })
})

act(async () => {
  const host = await call('/host')
  const projects = host.projects.result ? `${host.projects.result.length} projects` : `projects refused (${host.projects.refused})`
  document.querySelector('#host').textContent = `Asked the host over the channel: ${projects}.`
})

/**
 * The HTTP client of the gateway, without what `undici` itself loads: its index also runs fetch, WebSocket, caches, cookies and mocks,
 * 12 MiB of resident memory that nothing here uses. The parts are at fixed paths of a pinned version; a test keeps them working.
 */
import api from 'undici/lib/api/index.js'
import Client from 'undici/lib/dispatcher/client.js'
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js'
import Pool from 'undici/lib/dispatcher/pool.js'

Object.assign(Dispatcher.prototype, api) // `request` and its like, as undici/index.js does; `dispatch` is there already

export { Client, Pool }

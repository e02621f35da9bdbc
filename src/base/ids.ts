import { randomBytes } from 'node:crypto'

declare const brand: unique symbol
type Brand<T, B extends string> = T & { readonly [brand]: B }

/** The operator's name of a plugin: policy file name, URL segment, directory name. */
export type PluginName = Brand<string, 'PluginName'>
/** One start of one program: names its cgroup, its bundle and its records. 16 hex digits, never reused. */
export type RunId = Brand<string, 'RunId'>

/** The verified-install rule of the protocol, section 7; `plugins` collides with the management routes. */
const PLUGIN_NAME = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/
const RESERVED = new Set(['plugins', 'cordon'])

export function isPluginName(text: string): text is PluginName {
  return PLUGIN_NAME.test(text) && !RESERVED.has(text)
}

export function isRunId(text: string): text is RunId {
  return /^[0-9a-f]{16}$/.test(text)
}

export function newRunId(): RunId {
  return randomBytes(8).toString('hex') as RunId
}

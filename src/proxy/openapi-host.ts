import type { OpenApiDocument } from './openapi.ts'

/** The host's own part of the OpenAPI document; paths are below `/api`. */
export function hostDocument(version: string): OpenApiDocument {
  const name = { name: 'name', in: 'path', required: true, schema: { type: 'string', pattern: '^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$' } }
  const act = (summary: string) => ({ post: { tags: ['host'], summary, parameters: [name], responses: { 200: reply('status afterwards', ref('PluginStatus')), ...ERRORS } } })
  return {
    openapi: '3.1.0',
    info: { title: 'Cordon host API', version },
    servers: [{ url: '/api' }],
    security: [{ bearer: [] }],
    tags: [{ name: 'host', description: 'Cordon itself; every other tag is a plugin, described in its own words.' }],
    paths: {
      '/openapi.json': { get: { tags: ['host'], summary: 'This document', responses: { 200: reply('OpenAPI 3.1', { type: 'object' }), ...ERRORS } } },
      '/x/plugins': { get: { tags: ['host'], summary: 'Manifests of running plugins', responses: { 200: reply('full manifests', { type: 'array', items: ref('Manifest') }), ...ERRORS } } },
      '/x/plugins/reload': {
        post: { tags: ['host'], summary: 'Read policies again; restart what changed. A policy that grants more than before is left to the terminal', responses: { 200: reply('all run', ref('Reload')), 207: reply('some failed', ref('Reload')), 502: reply('none runs', ref('Reload')), ...ERRORS } },
      },
      '/x/plugins/{name}/status': { get: { tags: ['host'], summary: 'State of one plugin, and why', parameters: [name], responses: { 200: reply('status', ref('PluginStatus')), ...ERRORS } } },
      '/x/plugins/{name}/start': act('Start within its policy'),
      '/x/plugins/{name}/stop': act('Stop'),
      '/x/plugins/{name}/restart': act('Stop and start'),
      '/x/plugins/{name}/disable': act('Stop and keep stopped; enabling is done in a terminal'),
      '/x/plugins/{name}/quarantine': act('Freeze at once, shut its door, answer 503 for it, also after a reboot; releasing is done in a terminal'),
    },
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
      schemas: {
        Manifest: { type: 'object', required: ['name', 'version'], properties: { name: { type: 'string' }, version: { type: 'string' } } },
        PluginStatus: { type: 'object', required: ['name', 'state', 'configured'], properties: { name: { type: 'string' }, state: { type: 'string' }, configured: { type: 'boolean' }, reason: { type: 'string' } } },
        Reload: {
          type: 'object',
          required: ['loaded', 'plugins', 'failures', 'message'],
          properties: {
            loaded: { type: 'integer' },
            plugins: { type: 'array', items: { type: 'string' } },
            failures: { type: 'array', items: { type: 'object', properties: { plugin: { type: 'string' }, reason: { type: 'string' } } } },
            message: { type: 'string' },
          },
        },
        Problem: { type: 'object', required: ['title', 'status', 'detail', 'code'], properties: { title: { type: 'string' }, status: { type: 'integer' }, detail: { type: 'string' }, code: { type: 'string' }, hint: { type: 'string' } } },
      },
    },
    'x-cordon-omitted': [],
  }
}

const ERRORS = { default: { description: 'problem (RFC 9457)', content: { 'application/problem+json': { schema: ref('Problem') } } } }

function reply(description: string, schema: object): object {
  return { description, content: { 'application/json': { schema } } }
}

function ref(name: string): object {
  return { $ref: `#/components/schemas/${name}` }
}

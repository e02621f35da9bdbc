/** A class of the Open Cybersecurity Schema Framework, so that other systems can sort our lines without knowing Cordon. */
export interface OcsfClass {
  readonly uid: number
  readonly name: string
}

/**
 * Numbers and names as in github.com/ocsf/ocsf-schema at version 1.9.0: the category (categories.json) times a thousand, plus the class
 * (`uid` in events/CATEGORY/CLASS.json). Version 2.0 announces that 4002 and 4003 become part of 4001; the records say what they are by their `type`.
 */
export const OCSF = {
  file: { uid: 1001, name: 'File System Activity' },
  process: { uid: 1007, name: 'Process Activity' },
  eventLog: { uid: 1008, name: 'Event Log Activity' },
  detection: { uid: 2004, name: 'Detection Finding' },
  authentication: { uid: 3002, name: 'Authentication' },
  entity: { uid: 3004, name: 'Entity Management' },
  network: { uid: 4001, name: 'Network Activity' },
  http: { uid: 4002, name: 'HTTP Activity' },
  dns: { uid: 4003, name: 'DNS Activity' },
  processQuery: { uid: 5015, name: 'Process Query' },
  lifecycle: { uid: 6002, name: 'Application Lifecycle' },
  api: { uid: 6003, name: 'API Activity' },
} as const satisfies Record<string, OcsfClass>

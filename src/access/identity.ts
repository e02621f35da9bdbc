/**
 * Who a plugin is told the caller is. Id, email and role go together or not at all: a partial set makes the SDKs refuse
 * every route (protocol section 12.3). Cordon has one administrator, who holds the admin token or a session made from it.
 * The permissions are those of the platform data that the protocol knows; SDKs drop tokens that they do not know.
 */
export interface Identity {
  readonly role: 'admin'
  readonly id: string
  readonly email: string
  readonly permissions: string
}

export const ADMIN: Identity = {
  role: 'admin',
  id: '1',
  email: 'admin@localhost',
  permissions: 'projects:read,projects:write,environments:read,environments:write,deployments:read,deployments:write',
}

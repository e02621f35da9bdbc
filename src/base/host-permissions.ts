/** Host permissions of the plugin protocol (section 7): a manifest requests them, the operator's policy grants them. */
export const HOST_PERMISSIONS = ['ai_generate', 'projects_read', 'environments_read', 'deployments_read', 'api_read', 'api_write', 'events_read'] as const
export type HostPermission = (typeof HOST_PERMISSIONS)[number]

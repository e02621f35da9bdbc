/**
 * The data objects of protocol 10.4. Rust plugins decode strictly: every field is present, nullable ones as null; ids are
 * signed 32-bit; timestamps are RFC 3339 UTC with whole seconds.
 */
export interface ProjectInfo {
  readonly id: number
  readonly name: string
  readonly slug: string
  readonly repo_name: string
  readonly repo_owner: string
  readonly main_branch: string
  readonly preset: string
  readonly source_type: string
  readonly created_at: string
  readonly updated_at: string
  readonly last_deployment: string | null
  readonly enable_preview_environments: boolean
}

export interface EnvironmentInfo {
  readonly id: number
  readonly project_id: number
  readonly name: string
  readonly slug: string
  readonly branch: string | null
  readonly is_preview: boolean
  readonly current_deployment_id: number | null
  readonly created_at: string
  readonly updated_at: string
}

export interface DeploymentInfo {
  readonly id: number
  readonly project_id: number
  readonly environment_id: number
  readonly state: string
  readonly branch: string | null
  readonly tag: string | null
  readonly commit_sha: string | null
  readonly commit_message: string | null
  readonly commit_author: string | null
  readonly created_at: string
  readonly started_at: string | null
  readonly finished_at: string | null
}

/** Where the channel's answers come from. A host with projects and deployments implements it; null means not found. */
export interface HostDataProvider {
  getProject(projectId: number): Promise<ProjectInfo | null>
  /** By name ascending. */
  listProjects(limit: number): Promise<readonly ProjectInfo[]>
  getEnvironment(environmentId: number): Promise<EnvironmentInfo | null>
  /** By name ascending; unknown project: empty. */
  listEnvironments(projectId: number): Promise<readonly EnvironmentInfo[]>
  getDeployment(deploymentId: number): Promise<DeploymentInfo | null>
  /** Newest first by created_at; `environmentId` null means all. */
  listDeployments(projectId: number, environmentId: number | null, limit: number): Promise<readonly DeploymentInfo[]>
}

/** A host without such entities: plugins take `method_not_found` for an incompatibility, so lists are empty and gets find nothing. */
export const NO_ENTITIES: HostDataProvider = {
  getProject: async () => null,
  listProjects: async () => [],
  getEnvironment: async () => null,
  listEnvironments: async () => [],
  getDeployment: async () => null,
  listDeployments: async () => [],
}

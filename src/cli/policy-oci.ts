import type { RunId } from '../base/ids.ts'
import { etcBinds, bundlePaths } from '../launcher/bundle.ts'
import { cgroupVersion, openLegacyTree, type CgroupTree } from '../launcher/cgroup-tree.ts'
import { runPlaces } from '../launcher/host.ts'
import { probeHost } from '../launcher/preflight.ts'
import { OWN_UIDS } from '../launcher/users.ts'
import { compilePlugin } from '../plan/compile.ts'
import { renderOci } from '../plan/oci.ts'
import type { HostConfig } from '../policy/host-config.ts'
import type { Policy } from '../policy/policy.ts'

/**
 * For `policy explain --oci`: the configuration that this host would hand to the OCI runtime. Nothing is started or made;
 * what only a run knows (its id, uid, object) stands there as zeros and the first number of the range.
 * @throws CordonError HOST_… when the host cannot run plugins, PLAN_UNENFORCEABLE from the function that is returned
 */
export async function ociRenderer(config: HostConfig): Promise<(policy: Policy) => object> {
  const tree = cgroupVersion() === 1 ? openLegacyTree('cordon') : UNIFIED
  const facts = await probeHost(config, tree)
  const places = runPlaces(config.runDir)
  return (policy) => {
    const runId = '0'.repeat(16) as RunId
    const bundle = bundlePaths(places.bundlesDir, runId)
    return renderOci(compilePlugin(policy, facts, {
      runId,
      uid: config.uids.first + OWN_UIDS,
      rootPath: bundle.rootPath,
      initPath: places.initPath,
      netnsPath: `${places.networksDir}/${runId}`,
      cgroupPath: tree.ociPath(`plugins/${policy.plugin}`, runId),
      etc: etcBinds(),
      object: { path: `${config.stateDir}/store/${policy.executable.entry === null ? 'sha256' : 'tree'}/${policy.executable.sha256 ?? '0'.repeat(64)}`, entry: policy.executable.entry },
      dataPath: `${config.stateDir}/data/${policy.plugin}`,
      doorUid: null, socketDirPath: `${places.socketsDir}/${policy.plugin}`,
    }, '2'))
  }
}

/** Taking possession of the real one would move processes; a delegated cgroup has these controllers. */
const UNIFIED: CgroupTree = {
  version: 2,
  controllers: ['cpu', 'memory', 'pids', 'io'],
  ociPath: (group, leaf) => `/${group}/${leaf}`,
  dirs: () => new Map(),
  makeGroup: () => { throw new Error('nothing is made for an explanation') },
}

import { copyContent } from './copy.ts'
import { createContent } from './create-content.ts'
import { modifyRepository } from './modify.ts'
import { pruneRepositories, pruneRepository } from './prune.ts'
import { publishVersion } from './publish.ts'
import { maintenanceWorks } from './maintenance.ts'
import { namespaceWorks } from './access/namespace-resources.ts'
import { actOnRepository } from './repository-actions.ts'
import { signContent } from './signing/sign-content.ts'
import { resourceWorks } from './resources.ts'
import { syncRepository } from './sync.ts'
import type { Work } from './tasks/tasks.ts'
import { deleteVersion } from './versions.ts'

/** What tasks can do, by the kind that their row names. Kinds outlive a restart: a released one keeps its name and arguments. */
export const works: Readonly<Record<string, Work>> = {
  sync: syncRepository,
  publish: publishVersion,
  modify: modifyRepository,
  'upload-content': createContent,
  copy: copyContent,
  act: actOnRepository,
  sign: signContent,
  'delete-version': deleteVersion,
  prune: pruneRepositories,
  'prune-repository': pruneRepository,
  ...resourceWorks,
  ...namespaceWorks,
  ...maintenanceWorks,
}

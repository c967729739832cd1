import { cleanOrphans, reclaimSpace } from './gc.ts'
import { repairBlobs } from './repair.ts'
import { purgeTasks, type Work } from './tasks/tasks.ts'
import { commitUpload } from './uploads.ts'

/** What tasks do to keep the store in order. */
export const maintenanceWorks: Readonly<Record<string, Work>> = {
  orphans: cleanOrphans,
  reclaim: reclaimSpace,
  repair: repairBlobs,
  purge: purgeTasks,
  'commit-upload': commitUpload,
}

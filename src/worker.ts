import { works } from './core/work.ts'
import { formats } from './formats/index.ts'
import { runWorker } from './worker-thread.ts'

// The module that a worker thread starts with: see worker-pool.ts.
await runWorker({ works, formats })

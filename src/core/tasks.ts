import type { Row } from '../store/schema.ts'
import type { Ctx } from './ctx.ts'
import type { Progress } from './format.ts'

export const finalStates = ['completed', 'failed', 'canceled', 'skipped'] as const

/** What a task's work gets. */
export interface Job {
  readonly ctx: Ctx
  readonly task: { id: number; uuid: string; userId: number | null }
  readonly progress: Progress
  /** Aborted when the task is canceled or the server stops. */
  readonly signal: AbortSignal
  /** Records a created resource by its PRN, in order. */
  created(prn: string): Promise<void>
}

/** What a task does. Throws a Failure for what a user can act on; its message becomes the task's error description. */
export type Work = (job: Job, args: any) => Promise<void>

export interface NewTask {
  /** Pulp's dotted name. */
  name: string
  /** A key of `works` in work.ts. */
  kind: string
  args: Record<string, unknown>
  /** PRNs, or other words for what two tasks must not touch at once. */
  exclusive?: readonly string[]
  shared?: readonly string[]
  userId: number | null
  cid: string
  groupId?: number
  parentId?: number
  /** Short work is done inside the request when its resources are free; else a worker takes it. */
  immediate?: boolean
}

/** Stores a task and sees that it runs. */
export declare function dispatchTask(ctx: Ctx, task: NewTask): Promise<Row<'task'>>

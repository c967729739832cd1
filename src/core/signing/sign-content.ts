import { Failure } from '../../lib/failure.ts'
import { forEach } from '../../lib/for-each.ts'
import { keyIdsOf } from '../../lib/openpgp.ts'
import { type Db, transact } from '../../store/database.ts'
import type { Row } from '../../store/schema.ts'
import { putContent } from '../content.ts'
import type { Described, SigningRequest } from '../format.ts'
import { findHeld } from '../named-content.ts'
import { prnOf } from '../names.ts'
import { type ActionArgs, planChange } from '../repository-actions.ts'
import type { Job } from '../tasks/tasks.ts'
import { commitVersion, getRepository, latestVersion, lockRepository, markChanged } from '../versions.ts'
import { getSigningService } from './services.ts'
import { signAttached } from './sign.ts'

/** Signs content of a repository: a new version with the signatures, unless all was signed before. */
export async function signContent(job: Job, args: ActionArgs): Promise<void> {
  const { ctx } = job
  const repository = await getRepository(ctx.db, args.repositoryId)
  const { sign } = await planChange(ctx.formats, ctx.db, repository, args)
  if (!sign) throw new Error(`${args.action} signs nothing`)
  const signatures = await makeSignatures(job, sign)
  // It took its time, in which others pushed to the repository, or deleted from it.
  const version = await transact(ctx.db, async (tx) => {
    await job.hold(tx)
    await lockRepository(tx, repository.id)
    const add = await putContent(tx, await aboutWhatIsIn(tx, await latestVersion(tx, repository.id), signatures))
    const made = await commitVersion(tx, { repositoryId: repository.id, add, remove: [] })
    if (made) await markChanged(tx, repository.id)
    return made
  })
  if (!version) return
  ctx.changes.bump()
  await job.created(prnOf(ctx.formats, 'version', version))
}

const atOnce = 4

async function makeSignatures({ ctx, task, progress, signal }: Job, sign: SigningRequest): Promise<Described[]> {
  const signer = await getSigningService(ctx.db, sign.service)
  const wanted = await sign.unsigned(await keyIdsOf(signer.public_key))
  const made: Described[] = []
  const report = (change: object) => progress.report('sign.manifests', 'Signing Manifests', change)
  report({ total: wanted.length, done: 0 })
  await forEach(wanted, atOnce, async ({ unit, reference }) => {
    signal.throwIfAborted()
    const file = { name: 'manifest.json', bytes: await unit.entry(), cid: task.cid, signal }
    const described = await sign.describe(await signAttached(signer, file, reference))
    if (!described?.refers?.some(({ type, key }) => type === unit.type && key === unit.key))
      throw new Failure('integrity', `The signing script ${signer.script} made something that is no signature of ${unit.key}.`)
    made.push(described)
    report({ add: 1 })
  })
  report({ finished: true })
  return made
}

async function aboutWhatIsIn(db: Db, version: Row<'version'>, signatures: readonly Described[]): Promise<Described[]> {
  const subjects = signatures.flatMap(({ refers = [] }) => refers)
  const there = new Set<string>()
  for (const [type, named] of Map.groupBy(subjects, (subject) => subject.type)) {
    const keys = [...new Set(named.map(({ key }) => key))]
    for (const row of await findHeld(db, version, type, keys)) there.add(`${type} ${row.key}`)
  }
  return signatures.filter(({ refers = [] }) => refers.every(({ type, key }) => there.has(`${type} ${key}`)))
}

import { isAllowed } from '../core/auth.ts'
import { modelOf, prnOf } from '../core/names.ts'
import { getDistributions, promoteDistributions } from '../core/promotions.ts'
import { Failure } from '../lib/failure.ts'
import { apiRoot, hrefOf } from './pulp/hrefs.ts'
import type { Call, Endpoint, Target } from './pulp/resource.ts'

/* What Signalbox has beside Pulp's API, in the same tree and the same document. */

const promotions = `${apiRoot}signalbox/promotions/`

/** POST signalbox/promotions/: many distributions get one guard, all or none. */
const createPromotion: Endpoint = {
  name: 'create',
  method: 'POST',
  url: promotions,
  documented: promotions,
  operationId: 'signalbox_promotions_create',
  tag: 'Signalbox: Promotions',
  summary: 'Put distributions behind a guard, all in one transaction',
  body: {
    schema: 'Promotion',
    fields: {
      distributions: { type: 'array', items: { type: 'string' }, required: true, description: 'Their hrefs, PRNs or names.' },
      guard: { type: 'href', to: 'guard', required: true, description: 'The content guard they get.' },
    },
  },
  answers: {
    200: {
      schema: 'PromotionResponse',
      fields: {
        guard: { type: 'string', format: 'uri', required: true },
        promoted: { type: 'integer', required: true, description: 'How many got another guard.' },
        unchanged: { type: 'integer', required: true, description: 'How many had it already.' },
      },
    },
  },
  allow: 'authenticated',
  async run(call) {
    const references = call.body['distributions'] as string[]
    if (references.length === 0) throw new Failure('invalid', 'This list may not be empty.', { field: 'distributions' })
    const distributions = await getDistributions(call.ctx.db, references.map(keyIn))
    await permitChange(call, distributions)
    const guard = call.body['guard'] as Target
    const ids = distributions.map(({ id }) => id)
    const done = await promoteDistributions(call.ctx, ids, guard.id)
    call.ctx.log.info(
      { user: call.user?.username, guard: guard.prn, distributions: distributions.map(({ name }) => name), ...done },
      'promoted',
    )
    return { status: 200, body: { guard: hrefOf(call.registry, 'guard', guard), ...done } }
  },
}

/** To be mounted and documented with Pulp's own. */
export const signalboxEndpoints: readonly Endpoint[] = [createPromotion]

/** The uuid in an href or a PRN; a name is itself. */
function keyIn(reference: string): string {
  if (reference.startsWith('prn:')) return reference.slice(reference.lastIndexOf(':') + 1)
  return reference.includes('/pulp/') && reference.endsWith('/') ? reference.split('/').at(-2)! : reference
}

/** A promotion changes what each of them lets through: that takes the permission to change each. */
async function permitChange({ ctx, user }: Call, distributions: readonly { uuid: string; type: string }[]): Promise<void> {
  for (const distribution of distributions) {
    const [app, model] = modelOf(ctx.formats, 'distribution', distribution.type).split('.')
    const prn = prnOf(ctx.formats, 'distribution', distribution)
    if (!(await isAllowed(ctx, user!, `${app}.change_${model}`, prn)))
      throw new Failure('denied', 'You do not have permission to perform this action.')
  }
}

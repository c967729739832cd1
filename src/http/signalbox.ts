import { isAllowed, type User } from '../core/access/auth.ts'
import type { Ctx } from '../core/ctx.ts'
import { keyIn, modelOf, prnOf } from '../core/names.ts'
import { findNamespace, isAllowedIn, namespaceIn } from '../core/access/namespaces.ts'
import { findServedNames, type NamedPromotion, type ServedNames } from '../core/promote-named.ts'
import { getDistributions, promoteDistributions } from '../core/promotions.ts'
import { isDigest } from '../formats/container/digest.ts'
import { imageTags, isImagePath } from '../formats/container/promotion.ts'
import { Failure } from '../lib/failure.ts'
import { apiRoot, hrefOf, isSeen } from './pulp/engine/hrefs.ts'
import type { Call, Endpoint, Field, Target } from './pulp/engine/resource.ts'
import { mayPull, namespaceType } from './registry/rights.ts'

/* What Signalbox has beside Pulp's API, in the same tree and the same document. */

const promotions = `${apiRoot}signalbox/promotions/`

const text = (description: string): Field => ({ type: 'string', required: true, description })

/** POST signalbox/promotions/: many distributions get one guard and many images get tags, all or none. */
const createPromotion: Endpoint = {
  name: 'create',
  method: 'POST',
  url: promotions,
  documented: promotions,
  operationId: 'signalbox_promotions_create',
  tag: 'Signalbox: Promotions',
  summary: 'Put distributions behind a guard and tags of images where they belong, all in one transaction',
  body: {
    schema: 'Promotion',
    fields: {
      distributions: { type: 'array', items: { type: 'string' }, default: [], description: 'Their hrefs, PRNs or names.' },
      guard: { type: 'href', to: 'guard', required: true, description: 'The content guard they get.' },
      images: {
        type: 'array',
        default: [],
        description: 'Tags to bring along, with all that they are made of and what is said of them.',
        items: {
          type: 'object',
          properties: {
            from: text('Path that has the tag: `example-dev/nova-api`.'),
            to: text('Path that gets it. A repository and a distribution are made there when there are none.'),
            tag: text('The tag.'),
            digest: { type: 'string', description: 'What the tag must stand for.' },
          },
        },
      },
      untag: {
        type: 'array',
        default: [],
        description: 'Tags to take away, with what nothing else needs.',
        items: { type: 'object', properties: { path: text('Path that has the tag.'), tag: text('The tag.') } },
      },
      private: {
        type: 'boolean',
        default: true,
        description: 'Whether pulling from where images go takes a permission: made so, and refused where it is not.',
      },
    },
  },
  answers: {
    200: {
      schema: 'PromotionResponse',
      fields: {
        guard: { type: 'string', format: 'uri', required: true },
        promoted: { type: 'integer', required: true, description: 'How many got another guard.' },
        unchanged: { type: 'integer', required: true, description: 'How many had it already.' },
        images: {
          type: 'array',
          required: true,
          items: {
            type: 'object',
            properties: {
              to: text('The path.'),
              tag: text('The tag.'),
              digest: text('What it stands for.'),
              changed: { type: 'boolean', required: true, description: 'Whether it stood for this already.' },
            },
          },
        },
        untagged: { type: 'integer', required: true, description: 'How many tags were taken away.' },
      },
    },
  },
  allow: 'authenticated',
  async run(call) {
    const references = call.body['distributions'] as string[]
    const images = readImages(call)
    if (references.length + images.copies.length + images.removals.length === 0)
      throw new Failure('invalid', 'This list may not be empty.', { field: 'distributions' })
    const sees = (row: { id: number; uuid: string; type: string }) =>
      isSeen(call, { kind: 'distribution', ...row, prn: prnOf(call.ctx.formats, 'distribution', row) })
    const distributions = await getDistributions(call.ctx.db, references.map(keyOf), sees)
    await permitChange(call, distributions)
    const named = { ...images, mayMake: await permitImages(call, images) }
    const guard = call.body['guard'] as Target
    const { copied, removed, ...guarded } = await promoteDistributions(
      call.ctx,
      distributions.map(({ id }) => id),
      guard.id,
      images.copies.length + images.removals.length > 0 ? named : undefined,
    )
    call.ctx.log.info(
      {
        user: call.user?.username,
        guard: guard.prn,
        distributions: distributions.map(({ name }) => name),
        images: copied.map(({ to, name, key }) => `${to}:${name}@${key}`),
        untagged: images.removals.map(({ path, name }) => `${path}:${name}`),
        ...guarded,
      },
      'promoted',
    )
    const shown = copied.map(({ to, name, key, changed }) => ({ to, tag: name, digest: key, changed }))
    return {
      status: 200,
      body: { guard: hrefOf(call.registry, 'guard', guard), ...guarded, images: shown, untagged: removed },
    }
  },
}

/** To be mounted and documented with Pulp's own. */
export const signalboxEndpoints: readonly Endpoint[] = [createPromotion]

type Images = Omit<NamedPromotion, 'mayMake'>

function readImages({ body, user }: Call): Images {
  const wrong = (field: string, sentence: string) => new Failure('invalid', sentence, { field })
  const copies = (body['images'] as Record<string, unknown>[]).map(({ from, to, tag, digest }) => {
    for (const path of [from, to])
      if (typeof path !== 'string' || !isImagePath(path)) throw wrong('images', `"${String(path)}" is not the path of an image.`)
    if (typeof tag !== 'string' || tag === '') throw wrong('images', 'An image without a tag cannot be promoted.')
    if (digest !== undefined && !isDigest(digest)) throw wrong('images', `"${String(digest)}" is not a digest.`)
    return { from: from as string, to: to as string, name: tag, key: digest }
  })
  const removals = (body['untag'] as Record<string, unknown>[]).map(({ path, tag }) => {
    if (typeof path !== 'string' || typeof tag !== 'string') throw wrong('untag', 'A path and a tag are expected.')
    return { path, name: tag }
  })
  return { kind: imageTags, copies, removals, private: body['private'] as boolean, userId: user!.id }
}

/** The uuid in an href or a PRN; a name is itself. */
function keyOf(reference: string): string {
  if (reference.startsWith('prn:')) return keyIn(reference)
  return reference.includes('/pulp/') && reference.endsWith('/') ? reference.split('/').at(-2)! : reference
}

const denied = () => new Failure('denied', 'You do not have permission to perform this action.')

/** A promotion changes what each of them lets through: that takes the permission to change each. */
async function permitChange({ ctx, user }: Call, distributions: readonly { uuid: string; type: string }[]): Promise<void> {
  for (const distribution of distributions) {
    const [app, model] = modelOf(ctx.formats, 'distribution', distribution.type).split('.')
    const prn = prnOf(ctx.formats, 'distribution', distribution)
    if (!(await isAllowed(ctx, user!, `${app}.change_${model}`, prn))) throw denied()
  }
}

/**
 * Images come from where one may pull, and go where one may change what is there, or make what is not. Returns the paths at which
 * something is made. What may not be pulled and what does not exist are answered alike.
 */
async function permitImages({ ctx, user }: Call, { copies, removals }: Images): Promise<Set<string>> {
  const paths = new Set([...copies.flatMap(({ from, to }) => [from, to]), ...removals.map(({ path }) => path)])
  const served = await findServedNames(ctx.db, imageTags, paths)
  const namespaces = new Map<string, string | undefined>()
  for (const name of new Set([...paths].map(namespaceIn))) {
    const row = await findNamespace(ctx.db, namespaceType, name)
    namespaces.set(name, row && prnOf(ctx.formats, 'namespace', { ...row, type: namespaceType }))
  }
  const mayMake = new Set<string>()
  for (const from of new Set(copies.map((each) => each.from)))
    if (!(await mayPullFrom(ctx, user!, served.get(from), namespaces.get(namespaceIn(from))))) throw denied()
  for (const to of new Set([...copies.map((each) => each.to), ...removals.map(({ path }) => path)])) {
    const target = served.get(to)
    const namespace = namespaces.get(namespaceIn(to))
    if (!(target ? await mayModify(ctx, user!, target, namespace) : await mayAdd(ctx, user!, namespace))) throw denied()
    if (!target) mayMake.add(to)
  }
  return mayMake
}

async function mayPullFrom(
  ctx: Ctx,
  user: User,
  served: ServedNames | undefined,
  namespacePrn: string | undefined,
): Promise<boolean> {
  if (!served) return isAllowedIn(ctx, user, 'container.pull_containerdistribution', undefined, namespacePrn)
  const prn = prnOf(ctx.formats, 'distribution', served.distribution)
  return mayPull(ctx, user, { prn, namespacePrn, isPrivate: served.private })
}

async function mayModify(ctx: Ctx, user: User, { repository }: ServedNames, namespace: string | undefined): Promise<boolean> {
  const prn = prnOf(ctx.formats, 'repository', repository)
  return isAllowedIn(ctx, user, 'container.modify_content_containerrepository', prn, namespace)
}

/** In a namespace that is there the right to add to it; else the right to make namespaces. */
async function mayAdd(ctx: Ctx, user: User, namespace: string | undefined): Promise<boolean> {
  if (namespace !== undefined) return isAllowedIn(ctx, user, 'container.add_containerdistribution', undefined, namespace)
  return (
    (await isAllowed(ctx, user, 'container.add_containerdistribution')) &&
    (await isAllowed(ctx, user, 'container.add_containernamespace'))
  )
}

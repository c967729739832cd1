import type { ActionRequest, ContentChange, ContentPlace, Fields, RepositoryAction } from '../../core/format.ts'
import { Failure } from '../../lib/failure.ts'
import { checkPath } from './base-path.ts'
import { mediaTypes } from './content-types.ts'
import { describeTag, manifestType, signatureType, tagType } from './describe.ts'
import { describeSignature } from './signature.ts'
import { findUnsigned } from './unsigned.ts'

/* What is done with a repository of images: content hangs together, so it comes and goes by trees. */

const tasks = 'pulp_container.app.tasks'

const tagField: Fields = {
  tag: {
    type: 'string',
    required: true,
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
    patternProblem:
      'The provided tag is not valid. A tag may contain lowercase and uppercase ASCII alphabetic characters, digits, underscores, periods, and dashes. A tag must not start with a period or a dash.',
    description: 'A tag name',
  },
}
const digestField: Fields = { digest: { type: 'string', required: true, description: 'sha256 of the Manifest file' } }
const listed = (description: string): Fields[string] => ({ type: 'array', items: { type: 'any' }, description })

const add: RepositoryAction = {
  name: 'add',
  summary: 'Add content',
  schema: 'RecursiveManage',
  fields: { content_units: listed('A list of content units to operate on.') },
  units: 'content_units',
  task: `${tasks}.recursive_add.recursive_add_content`,
  right: 'modify',
  plan: async ({ units, target }) => ({ add: units === '*' ? await everything(target) : units }),
}

const remove: RepositoryAction = {
  ...add,
  name: 'remove',
  summary: 'Remove content',
  task: `${tasks}.recursive_remove.recursive_remove_content`,
  plan: async ({ units }) => ({ remove: units, deep: true }),
}

const copyTags: RepositoryAction = {
  name: 'copy_tags',
  summary: 'Copy tags',
  schema: 'TagCopy',
  fields: { names: listed('A list of tag names to copy.') },
  sources: ['container.container', 'container.container-push'],
  task: add.task,
  right: 'modify',
  plan: async ({ fields, source }) => ({ add: await source!.find(tagType, named(fields['names'], 'names')), from: 'source' }),
}

const copyManifests: RepositoryAction = {
  ...copyTags,
  name: 'copy_manifests',
  summary: 'Copy manifests',
  schema: 'ManifestCopy',
  fields: {
    digests: listed('A list of manifest digests to copy.'),
    media_types: { type: 'array', items: { type: 'string', enum: mediaTypes }, description: 'A list of media_types to copy.' },
  },
  plan: async ({ fields, source }) => ({
    add: await source!.find(manifestType, {
      ...named(fields['digests'], 'keys'),
      ...(Array.isArray(fields['media_types']) && { meta: { media_type: fields['media_types'] as string[] } }),
    }),
    from: 'source',
  }),
}

const tag: RepositoryAction = {
  name: 'tag',
  summary: 'Create a Tag',
  schema: 'TagImage',
  fields: { ...tagField, ...digestField },
  task: `${tasks}.tag.tag_image`,
  right: 'modify',
  async plan(request) {
    const digest = String(request.fields['digest'])
    await manifestsIn(request, digest)
    return { put: [describeTag(String(request.fields['tag']), digest)] }
  },
}

const untag: RepositoryAction = {
  name: 'untag',
  summary: 'Delete a tag',
  schema: 'UnTagImage',
  fields: tagField,
  task: `${tasks}.untag.untag_image`,
  right: 'modify',
  async plan({ fields, target }) {
    return { remove: await requireTag(target, String(fields['tag'])) }
  },
}

const signedFor = 'future_base_path'

/** `pushed`: the repository is served at one path for ever, so nobody need say which. */
const sign = (pushed: boolean): RepositoryAction => ({
  name: 'sign',
  summary: 'Sign images in the repo',
  schema: 'RepositorySign',
  fields: {
    manifest_signing_service: {
      type: 'href',
      to: 'signing_service:core.attached',
      nullable: true,
      description: 'A signing service to sign with. This will override a signing service set on the repo.',
    },
    [signedFor]: { type: 'string', description: 'Future base path content will be distributed at for sync repos' },
    tags_list: listed('A list of tags to sign.'),
  },
  task: `${tasks}.sign.sign`,
  right: 'modify',
  async plan(request) {
    const { fields, repository, host, target } = request
    const service = fields['manifest_signing_service'] ?? repository.settings['manifest_signing_service']
    if (typeof service !== 'string')
      throw new Failure('invalid', 'This field is required since a signing_service is not set on the repo.', {
        field: 'manifest_signing_service',
      })
    const path = await pathToSignFor(request, pushed)
    const asked = Array.isArray(fields['tags_list']) ? fields['tags_list'].map(String) : []
    for (const tag of asked) await requireTag(target, tag, 'tags_list')
    return {
      sign: {
        service,
        unsigned: (keyIds) => findUnsigned(target, `${host}/${path}`, asked, keyIds),
        describe: describeSignature,
      },
    }
  },
})

async function pathToSignFor({ fields, paths }: ActionRequest, pushed: boolean): Promise<string> {
  const given = fields[signedFor]
  const refuse = (message: string) => new Failure('invalid', message, { field: signedFor })
  if (!pushed) {
    if (typeof given !== 'string') throw refuse('This field is required since this is a sync repo type.')
    try {
      checkPath(given)
    } catch (error) {
      throw error instanceof Failure ? refuse(error.message) : error
    }
    return given
  }
  if (given !== undefined) throw refuse('This field cannot be set since this is a push repo type.')
  const [path] = await paths()
  if (path === undefined) throw refuse('The repository has no distribution, whose path is what images are signed for.')
  return path
}

/** Throws Failure invalid when there is no such tag, with the field that names it. */
async function requireTag(target: ContentPlace, tag: string, field?: string): Promise<number[]> {
  const found = await target.find(tagType, { names: [tag] })
  if (found.length > 0) return found
  throw new Failure('invalid', `The tag '${tag}' does not exist in the latest repository version '${target.title}'`, { field })
}

const buildImage: RepositoryAction = {
  name: 'build_image',
  summary: 'Build an Image',
  schema: 'OCIBuildImage',
  fields: {
    containerfile_name: { type: 'string', allowBlank: true, description: 'Name of the Containerfile in the build_context.' },
    containerfile: { type: 'string', format: 'binary', description: 'An uploaded Containerfile.' },
    tag: { type: 'string', default: 'latest', description: 'A tag name for the new image being built.' },
    build_context: {
      type: 'href',
      to: 'version',
      nullable: true,
      description: 'RepositoryVersion to be used as the build context for container images.',
    },
  },
  task: `${tasks}.builder.build_image`,
  right: 'build_image',
  async plan() {
    throw new Failure(
      'invalid',
      'Images are not built on this server: build with buildah or podman where the sources are, and push the result.',
    )
  },
}

const removeImage: RepositoryAction = {
  name: 'remove_image',
  summary: 'Delete an image from a repository',
  schema: 'RemoveImage',
  fields: digestField,
  task: remove.task,
  right: 'modify',
  async plan(request) {
    const digest = String(request.fields['digest'])
    const found = await manifestsIn(request, digest)
    const tags = await request.target.find(tagType, { meta: { digest: [digest] } })
    return { remove: [...found, ...tags], deep: true }
  },
}

const keyField: Fields = {
  signed_with_key_id: {
    type: 'string',
    required: true,
    description: 'key_id of the key the signatures were produced with',
  },
}

const removeSignatures: RepositoryAction = {
  name: 'remove_signatures',
  summary: 'Delete signatures',
  schema: 'RemoveSignatures',
  fields: keyField,
  task: remove.task,
  right: 'modify',
  documented: { status: 200, schema: 'RemoveSignaturesResponse', fields: keyField },
  async plan({ fields, target }) {
    const key = String(fields['signed_with_key_id'])
    const found = await target.find(signatureType, { meta: { key_id: [key] } })
    if (found.length === 0)
      throw new Failure(
        'invalid',
        `There are no signatures in the latest repository version '${target.title}' produced with the specified key_id '${key}'`,
      )
    return { remove: found } satisfies ContentChange
  },
}

export const repositoryActions = [add, remove, copyTags, copyManifests, tag, untag, sign(false), buildImage]
export const pushRepositoryActions = [tag, untag, removeImage, removeSignatures, sign(true)]

async function manifestsIn({ target }: ActionRequest, digest: string): Promise<number[]> {
  const found = await target.find(manifestType, { keys: [digest] })
  if (found.length === 0)
    throw new Failure(
      'invalid',
      `A manifest with the digest '${digest}' does not exist in the latest repository version '${target.title}'`,
    )
  return found
}

/** All of them when no list is given. */
function named(list: unknown, by: 'names' | 'keys') {
  return Array.isArray(list) ? { [by]: list.map(String) } : {}
}

/** Adding `*` adds what is there: nothing new. */
async function everything(target: ActionRequest['target']): Promise<number[]> {
  return target.find(tagType)
}

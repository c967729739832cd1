import { prnOf } from '../../core/names.ts'
import { contentTargets } from './content-targets.ts'
import { apiRoot, findTarget } from './engine/hrefs.ts'
import { invalidField } from './engine/invalid.ts'
import { domainLock, postponed, taskAnswer } from './engine/operations.ts'
import type { Call, Endpoint, Target } from './engine/resource.ts'
import { verifyField } from './versions.ts'

/* What keeps the store in order: administrators start it. */

const post = (
  path: string,
  operationId: string,
  tag: string,
): Pick<Endpoint, 'method' | 'url' | 'documented' | 'operationId' | 'tag' | 'answers' | 'allow'> => ({
  method: 'POST',
  url: `${apiRoot}${path}`,
  documented: `${apiRoot}${path}`,
  operationId,
  tag,
  answers: { 202: taskAnswer },
  allow: 'admin',
})

const cleanup: Endpoint = {
  ...post('orphans/cleanup/', 'orphans_cleanup_cleanup', 'Orphans_Cleanup'),
  name: 'cleanup',
  summary: 'Start an orphan cleanup',
  body: {
    schema: 'OrphansCleanup',
    lenient: true,
    fields: {
      content_hrefs: {
        type: 'array',
        items: { type: 'any' },
        description: 'Will delete specified content and associated Artifacts if they are orphans.',
      },
      orphan_protection_time: {
        type: 'integer',
        format: 'int64',
        nullable: true,
        minimum: 0,
        maximum: 4294967295,
        description:
          'The time in minutes for how long Pulp will hold orphan Content and Artifacts before they become candidates for deletion.',
      },
    },
  },
  async run(call) {
    const hrefs: string[] | undefined = call.body['content_hrefs']
    if (hrefs?.length === 0) throw invalidField('content_hrefs', 'Must not be [].')
    const content = hrefs && (await contentTargets(call, 'content_hrefs', hrefs.map(String)))
    return cleanOrphans(call, {
      contentIds: content?.map(({ id }) => id) ?? null,
      protectionTime: call.body['orphan_protection_time'],
    })
  },
}

/** The way of older clients. */
const deleteOrphans: Endpoint = {
  ...post('orphans/', 'orphans_delete', 'Orphans'),
  method: 'DELETE',
  name: 'delete',
  summary: 'Delete orphans',
  run: (call) => cleanOrphans(call, {}),
}

async function cleanOrphans(call: Call, args: Record<string, unknown>) {
  return postponed(call, {
    name: 'pulpcore.app.tasks.orphan.orphan_cleanup',
    kind: 'orphans',
    args,
    exclusive: [await domainLock(call, 'orphans')],
  })
}

const repair: Endpoint = {
  ...post('repair/', 'repair_post', 'Repair'),
  name: 'post',
  summary: 'Repair Artifact Storage',
  body: { schema: 'Repair', fields: verifyField },
  run: async (call) =>
    postponed(call, {
      name: 'pulpcore.app.tasks.repair.repair_all_artifacts',
      kind: 'repair',
      args: { verifyChecksums: call.body['verify_checksums'] },
      exclusive: [await domainLock(call, 'repair')],
    }),
}

const reclaim: Endpoint = {
  ...post('repositories/reclaim_space/', 'repositories_reclaim_space_reclaim', 'Repositories: Reclaim_Space'),
  name: 'reclaim',
  summary: 'Reclaim disk space',
  body: {
    schema: 'ReclaimSpace',
    fields: {
      repo_hrefs: {
        type: 'array',
        items: { type: 'any' },
        required: true,
        description: "Will reclaim space for the specified list of repos. Use ['*'] to specify all repos.",
      },
      repo_versions_keeplist: {
        type: 'array',
        items: { type: 'href', to: 'version' },
        description: 'Will exclude repo versions from space reclaim.',
      },
    },
  },
  async run(call) {
    const repositories = await repositoriesNamed(call, (call.body['repo_hrefs'] as unknown[]).map(String))
    const keep: Target[] = call.body['repo_versions_keeplist'] ?? []
    return postponed(call, {
      name: 'pulpcore.app.tasks.reclaim_space.reclaim_space',
      kind: 'reclaim',
      args: { repositoryIds: repositories.map(({ id }) => id), keepVersionIds: keep.map(({ id }) => id) },
      exclusive: repositories.length > 0 ? [] : [await domainLock(call, 'reclaim_space')],
      shared: repositories.map(({ prn }) => prn),
    })
  },
}

/** Repositories that a request lists as hrefs or PRNs, or all of them for `*`. */
export async function repositoriesNamed(
  call: Call,
  values: readonly string[],
): Promise<{ id: number; prn: string; type: string }[]> {
  const problem = (message: string) => invalidField('repo_hrefs', message)
  if (values.length === 0) throw problem('Must not be [].')
  if (values.includes('*')) {
    if (values.length > 1) throw problem("Can not specify other HREFs when using '*'")
    const rows = await call.ctx.db.selectFrom('repository').select(['id', 'uuid', 'type']).execute()
    return rows.map((row) => ({ id: row.id, type: row.type, prn: prnOf(call.ctx.formats, 'repository', row) }))
  }
  return Promise.all(
    values.map(async (value) => {
      const found = await findTarget(call, value, ['repository'])
      if (found === 'unknown') throw problem(`URI not valid: ${value}`)
      if (typeof found === 'string') throw problem(`URI ${value} not found for repository.`)
      return found
    }),
  )
}

export const maintenance: readonly Endpoint[] = [cleanup, deleteOrphans, repair, reclaim]

import { done, get, type Group, head, post } from '../step.ts'

const served = '/pulp/content/{run}-checkpoints'

/** What is served of each time that a repository was published as a checkpoint. */
export const checkpoints: readonly Group[] = [
  {
    name: 'checkpoints',
    steps: [
      post(
        'repositories/file/file/',
        { name: '{run}-checkpoints' },
        { save: { repo: 'pulp_href', version: 'latest_version_href' } },
      ),
      post('publications/file/file/', { repository_version: '{version}', checkpoint: true }),
      done(post('publications/file/file/', { repository: '{repo}', checkpoint: true }), { publication: 'created_resources.0' }),
      get('{publication}'),
      get('publications/file/file/?repository={repo}&checkpoint=true&fields=checkpoint'),
      get('publications/file/file/?repository={repo}&checkpoint=false&fields=checkpoint'),
      post('distributions/file/file/', { name: '{run}-none', base_path: '{run}-none', checkpoint: true }),
      post('distributions/file/file/', {
        name: '{run}-none',
        base_path: '{run}-none',
        publication: '{publication}',
        checkpoint: true,
      }),
      done(
        post('distributions/file/file/', {
          name: '{run}-checkpoints',
          base_path: '{run}-checkpoints',
          repository: '{repo}',
          checkpoint: true,
        }),
        { dist: 'created_resources.0' },
      ),
      get('{dist}'),
      get(served),
      get(`${served}/`),
      get(`${served}/PULP_MANIFEST`),
      get(`${served}/20200101T000000Z/PULP_MANIFEST`),
      get(`${served}/20200231T000000Z/`),
      get(`${served}/29990101T000000Z/`),
      get(`${served}/{second}/PULP_MANIFEST`, { pause: 1100, save: { manifest: 'headers.location' } }),
      get(`${served}/{second}/a%20b?x=1`),
      get(`${served}/{second}/`, { save: { directory: 'headers.location' } }),
      head(`${served}/{second}/`),
      get(`${served}/{second}`),
      get('{directory}'),
      get('{manifest}'),
      get('{directory}nosuch'),
    ],
  },
]

import { done, get, type Group, head, patch, password, post } from '../step.ts'

const key = (value: string) => ({ headers: { 'x-key': value } })
const id = (value: unknown) => ({ headers: { 'x-id': Buffer.from(JSON.stringify(value)).toString('base64') } })
const file = '/pulp/content/{run}-behind/one.txt'

/** Guards of each kind in front of the same file. */
export const guarded: readonly Group[] = [
  {
    name: 'guarded content',
    steps: [
      post(
        'remotes/file/file/',
        { name: '{run}-behind', url: '{upstream}/file/PULP_MANIFEST', policy: 'on_demand' },
        { save: { remote: 'pulp_href' } },
      ),
      post(
        'repositories/file/file/',
        { name: '{run}-behind', remote: '{remote}', autopublish: true },
        { save: { repo: 'pulp_href' } },
      ),
      done(post('{repo}sync/', {})),
      post('users/', { username: '{run}-in', password }),
      post('users/', { username: '{run}-out', password }),
      post('contentguards/core/rbac/', { name: '{run}-behind' }, { save: { rbac: 'pulp_href' } }),
      post('{rbac}add_role/', { role: 'core.rbaccontentguard_downloader', users: ['{run}-in'] }),
      post(
        'contentguards/core/header/',
        { name: '{run}-behind-h', header_name: 'x-key', header_value: 'v' },
        { save: { header: 'pulp_href' } },
      ),
      post(
        'contentguards/core/header/',
        { name: '{run}-behind-j', header_name: 'x-id', header_value: 'v', jq_filter: '.a.b' },
        { save: { jq: 'pulp_href' } },
      ),
      post(
        'contentguards/core/composite/',
        { name: '{run}-behind-c', guards: ['{rbac}', '{header}'] },
        { save: { any: 'pulp_href' } },
      ),
      post('contentguards/core/composite/', { name: '{run}-behind-n', guards: [] }, { save: { none: 'pulp_href' } }),
      post('contentguards/core/content_redirect/', { name: '{run}-behind-r' }, { save: { redirect: 'pulp_href' } }),
      done(
        post('distributions/file/file/', {
          name: '{run}-behind',
          base_path: '{run}-behind',
          repository: '{repo}',
          content_guard: '{rbac}',
        }),
        { dist: 'created_resources.0' },
      ),
      get(file, { as: 'nobody' }),
      head(file, { as: 'nobody' }),
      get(file, { as: 'wrong' }),
      get(file, { as: '{run}-out' }),
      get(file, { as: '{run}-in' }),
      get(file, { as: '{run}-in', headers: { range: 'bytes=0-1' } }),
      get(file, { as: 'basic' }),
      get(file, { as: 'nobody', headers: { authorization: 'Bearer x' } }),
      get(file, { as: 'nobody', headers: { authorization: 'Basic !!' } }),
      get('/pulp/content/{run}-behind/nosuch', { as: 'nobody' }),
      get('/pulp/content/{run}-behind/nosuch', { as: '{run}-in' }),
      get('/pulp/content/{run}-behind/', { as: 'nobody' }),
      get('/pulp/content/{run}-behind', { as: 'nobody' }),
      done(patch('{dist}', { content_guard: '{header}' })),
      get(file, { as: 'nobody' }),
      get(file, { as: 'nobody', ...key('w') }),
      get(file, { as: 'nobody', ...key('v') }),
      done(patch('{dist}', { content_guard: '{jq}' })),
      get(file, { as: 'nobody' }),
      get(file, { as: 'nobody', ...id({ a: { b: 'v' } }) }),
      get(file, { as: 'nobody', ...id({ a: { b: 'w' } }) }),
      get(file, { as: 'nobody', headers: { 'x-id': '!!' } }),
      done(patch('{dist}', { content_guard: '{any}' })),
      get(file, { as: 'nobody' }),
      get(file, { as: 'nobody', ...key('v') }),
      get(file, { as: '{run}-in' }),
      done(patch('{dist}', { content_guard: '{none}' })),
      get(file, { as: '{run}-in' }),
      done(patch('{dist}', { content_guard: '{redirect}' })),
      get(file, { as: '{run}-in' }),
      get(`${file}?validate_token=abc`, { as: 'nobody' }),
    ],
  },
]

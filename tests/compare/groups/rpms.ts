import { done, each, filtered, get, type Group, head, post, remove, type Step } from '../step.ts'
import { absent } from './answers.ts'

const packages = 'content/rpm/packages/'
const publications = 'publications/rpm/rpm/'
const distributions = 'distributions/rpm/rpm/'

/** A synced repository: all its content with all filters, copies, uploads; `built` are packages of this run. */
export function rpms(run: string, built: readonly Buffer[]): Group[] {
  const [first, second] = built
  const upload = (bytes: Buffer, more: Record<string, string> = {}) =>
    post(packages, undefined, { parts: { file: { bytes, name: 'p.rpm' }, ...more } })
  return [
    { name: 'rpm sync and content', steps: [...syncing(), ...contentLists(run), ...copying()] },
    {
      name: 'rpm uploads',
      steps: [
        post('repositories/rpm/rpm/', { name: '{run}-up' }, { save: { repo: 'pulp_href' } }),
        post('repositories/file/file/', { name: '{run}-up-f' }, { save: { filerepo: 'pulp_href' } }),
        post(packages, {}),
        post(packages, { artifact: 'x' }),
        post(packages, { artifact: `/pulp/api/v3/artifacts/${absent}/` }),
        post(packages, { file_url: '{upstream}/single.txt', bogus: 1 }),
        post(packages, { file_url: '{upstream}/single.txt', repository: '{filerepo}' }),
        done(upload(Buffer.from('no package'), { repository: '{repo}' })),
        done(post(packages, { file_url: '{upstream}/single.txt' })),
        done(upload(first!, { repository: '{repo}', pulp_labels: '{"a":"b"}' }), {
          v1: 'created_resources.~versions',
          first: 'created_resources.~content',
        }),
        get('{first}', { save: { artifact: 'artifact', sha: 'sha256' } }),
        get('{v1}'),
        done(upload(first!)),
        done(upload(second!, { relative_path: 'second.rpm' }), { second: 'created_resources.0' }),
        get('{second}'),
        done(post('{repo}modify/', { add_content_units: ['{second}'], remove_content_units: ['{first}'] }), {
          v2: 'created_resources.0',
        }),
        get('{v2}'),
        get(`${packages}?sha256={sha}&fields=name,location_href`),
        post('{first}set_label/', { key: 'x', value: 'y' }),
        post('content/rpm/advisories/', {}),
        done(
          post('content/rpm/advisories/', undefined, {
            parts: { file: { bytes: '{"id": 5}', name: 'a.json' }, repository: '{repo}' },
          }),
        ),
        done(post('content/rpm/advisories/', undefined, { parts: { file: { bytes: 'nonsense', name: 'a.json' } } })),
        done(
          post('content/rpm/advisories/', undefined, {
            parts: { file: { bytes: JSON.stringify(advisory(run)), name: 'a.json' }, repository: '{repo}' },
          }),
          { advisory: 'created_resources.~content' },
        ),
        get('{advisory}'),
        post('content/rpm/modulemds/', {}),
        done(
          post('content/rpm/modulemds/', {
            name: '{run}-m',
            stream: 's',
            version: '1',
            context: 'c',
            arch: 'noarch',
            artifacts: ['a'],
            dependencies: [{ platform: ['el9'] }],
            packages: ['{second}'],
            snippet: '---\n...',
            profiles: { default: ['a'] },
            description: 'd',
            repository: '{repo}',
          }),
          { modulemd: 'created_resources.~content' },
        ),
        get('{modulemd}'),
        post('content/rpm/modulemd_defaults/', {}),
        done(post('content/rpm/modulemd_defaults/', { module: '{run}-m', stream: 's', profiles: { a: 'b' }, snippet: '{run}' }), {
          defaults: 'created_resources.~content',
        }),
        get('{defaults}'),
        post('content/rpm/modulemd_obsoletes/', {}),
        done(
          post('content/rpm/modulemd_obsoletes/', {
            module_name: '{run}-m',
            module_stream: 's',
            modified: '2024-01-02T03:04:05Z',
            message: 'm',
            override_previous: null,
            module_context: null,
            eol_date: null,
            obsoleted_by_module_name: null,
            obsoleted_by_module_stream: null,
            snippet: '{run}',
          }),
          { obsolete: 'created_resources.~content' },
        ),
        get('{obsolete}'),
        done(upload(first!, { repository: '{repo}', relative_path: 'x/other.rpm' })),
        post('content/rpm/packagegroups/', {}),
        post('content/rpm/distribution_trees/', {}),
      ],
    },
    { name: 'rpm publications and distributions', steps: publishing() },
  ]
}

function syncing(): Step[] {
  return [
    post('remotes/rpm/rpm/', { name: '{run}-rpm', url: '{upstream}/rpm/' }, { save: { remote: 'pulp_href' } }),
    post('repositories/rpm/rpm/', { name: '{run}-rpm', remote: '{remote}' }, { save: { repo: 'pulp_href' } }),
    done(post('{repo}sync/', {}), { v: 'created_resources.0' }),
    get('{repo}'),
    get('{v}'),
    done(post('{repo}sync/', {})),
    done(post('{repo}sync/', { optimize: false })),
    done(post('{repo}sync/', { sync_policy: 'mirror_content_only', skip_types: ['srpm'], optimize: false }), {
      v2: 'created_resources.0',
    }),
    get('{v2}'),
    post('repositories/rpm/rpm/', { name: '{run}-rpm-complete' }, { save: { complete: 'pulp_href' } }),
    done(post('{complete}sync/', { remote: '{remote}', sync_policy: 'mirror_complete' })),
    get('{complete}versions/'),
    get('publications/rpm/rpm/?repository={complete}'),
    post(
      'remotes/rpm/rpm/',
      { name: '{run}-rpm-gone', url: '{upstream}/nosuch/', max_retries: 0 },
      { save: { gone: 'pulp_href' } },
    ),
    done(post('{repo}sync/', { remote: '{gone}' })),
    post(
      'remotes/rpm/rpm/',
      { name: '{run}-rpm-odd', url: '{upstream}/rpm-odd/', max_retries: 0 },
      { save: { odd: 'pulp_href' } },
    ),
    done(post('{repo}sync/', { remote: '{odd}' })),
  ]
}

/** Values of the upstream for every filter of every content type. */
function contentLists(run: string): Step[] {
  const scope = 'repository_version={v}'
  const list = (type: string, filters: Parameters<typeof filtered>[2], fields: string, save: Step['save'] = {}) => [
    get(`content/rpm/${type}/?${scope}`, { sorted: true, save: { item: 'results.0.pulp_href', ...save } }),
    get('{item}', { only: ['pulp_labels'] }),
    get(`content/rpm/${type}/?repository_version_added={v}&fields=${fields}`, { sorted: true }),
    get(`content/rpm/${type}/?repository_version_removed={v2}&fields=${fields}`, { sorted: true }),
    ...filtered(`content/rpm/${type}/`, `${scope}&fields=${fields}`, { ...filters, nosuch: 1 }, { sorted: true }),
  ]
  return [
    ...list(
      'packages',
      {
        name: [`bear-${run}`, 'x'],
        name__in: `bear-${run},cat-${run}`,
        name__ne: `bear-${run}`,
        name__contains: 'bear',
        name__startswith: 'bea',
        epoch: '1',
        epoch__in: '0,1',
        epoch__ne: '0',
        version: '5.0',
        version__in: '4.1,1.0',
        version__ne: '5.0',
        release: '1',
        release__in: '1,2',
        release__ne: '1',
        release__contains: 'el',
        release__startswith: '0.',
        arch: 'src',
        arch__in: 'src,x86_64',
        arch__ne: 'noarch',
        arch__contains: 'no',
        arch__startswith: 'x',
        pkgId: 'abc',
        pkgId__in: 'abc',
        sha256: 'abc',
        checksum_type: ['sha256', 'nosuch'],
        checksum_type__in: 'sha256,sha512',
        checksum_type__ne: 'sha256',
        ordering: ['name', '-version', 'nosuch', 'evr', 'pkgId'],
        limit: 'abc',
        q: [`name=bear-${run} AND epoch=1`, 'NOT arch=noarch'],
      },
      'name,epoch,version,release,arch',
    ),
    get(`${packages}?${scope}&ordering=name,version&limit=2&offset=1&fields=name,version`),
    get(`${packages}?${scope}&fields=nosuch`, { sorted: true }),
    ...list(
      'advisories',
      {
        id: [`ADV-${run}`, 'x'],
        id__in: `ADV-${run},x`,
        severity: 'Important',
        severity__in: 'Important',
        severity__ne: 'Important',
        status: 'final',
        status__in: 'final',
        status__ne: 'final',
        type: 'security',
        type__in: 'security',
        type__ne: 'security',
        ordering: ['id', 'issued_date', 'nosuch'],
      },
      'id',
    ),
    ...list(
      'modulemds',
      {
        name: `walrus-${run}`,
        name__in: `walrus-${run}`,
        name__contains: 'walrus',
        stream: '5.21',
        stream__in: '5.21',
        version: '20180704144203',
        context: 'deadbeef',
        context__contains: 'dead',
        context__in: 'deadbeef',
        arch: 'x86_64',
        ordering: ['name', 'nosuch'],
      },
      'name,stream',
    ),
    ...list(
      'modulemd_defaults',
      { module: `walrus-${run}`, module__in: `walrus-${run}`, stream: '5.21', stream__in: '5.21', sha256: 'x' },
      'module,stream',
    ),
    ...list('modulemd_obsoletes', { ordering: ['nosuch', 'pulp_created'] }, 'module_name,module_stream,message'),
    ...list('packagegroups', { ordering: ['nosuch'] }, 'id,name'),
    ...list('packagecategories', {}, 'id,name'),
    ...list('packageenvironments', {}, 'id,name'),
    ...list('packagelangpacks', {}, 'matches'),
    ...list('repo_metadata_files', {}, 'data_type'),
    ...list('distribution_trees', {}, 'release_name'),
    get(`content/?${scope}&fields=pulp_type`, { sorted: true }),
  ]
}

function copying(): Step[] {
  const config = (more: object) => ({
    config: [{ source_repo_version: '{v}', dest_repo: '{dest}', ...more }],
    dependency_solving: false,
  })
  return [
    post('repositories/rpm/rpm/', { name: '{run}-dest' }, { save: { dest: 'pulp_href' } }),
    get(`${packages}?repository_version={v}&name=cat-{run}&fields=pulp_href`, { save: { cat: 'results.0.pulp_href' } }),
    get('content/rpm/advisories/?repository_version={v}&fields=pulp_href', { save: { advisory: 'results.0.pulp_href' } }),
    done(post('rpm/copy/', config({ content: ['{cat}'] }))),
    get('{dest}versions/'),
    done(post('rpm/copy/', config({ content: ['{advisory}'] }))),
    get('{dest}versions/2/'),
    done(post('rpm/copy/', config({ content: ['{cat}'], dest_base_version: 0 }))),
    get('{dest}versions/3/'),
    done(post('rpm/copy/', config({}))),
    get('{dest}versions/4/'),
    done(post('rpm/copy/', { config: [{ source_repo_version: '{v}', dest_repo: '{dest}', content: [] }] })),
    done(post('repositories/reclaim_space/', { repo_hrefs: ['{dest}'] })),
  ]
}

function publishing(): Step[] {
  const at = '/pulp/content/{run}-zoo'
  return [
    post(
      'remotes/rpm/rpm/',
      { name: '{run}-zoo', url: '{upstream}/zoo/', policy: 'on_demand' },
      { save: { remote: 'pulp_href' } },
    ),
    post('repositories/rpm/rpm/', { name: '{run}-zoo', remote: '{remote}' }, { save: { repo: 'pulp_href' } }),
    done(post('{repo}sync/', {}), { v: 'created_resources.0' }),
    ...each(
      [
        {},
        { repository: 'x' },
        { repository: '{repo}', checksum_type: 'md5' },
        { repository: '{repo}', checksum_type: 'nosuch' },
        { repository: '{repo}', compression_type: 'xz' },
        { repository: '{repo}', layout: 'x' },
        { repository: '{repo}', repo_config: 'x' },
        { repository: '{repo}', checkpoint: 'x' },
        { repository: '{repo}', repository_version: '{v}' },
        { repository: '{repo}', gpgcheck: 1, bogus: 1 },
      ],
      (body) => post(publications, body),
    ),
    done(post(publications, { repository: '{repo}' }), { pub: 'created_resources.0' }),
    get('{pub}'),
    done(
      post(publications, {
        repository_version: '{v}',
        checksum_type: 'sha512',
        compression_type: 'zstd',
        layout: 'flat',
        repo_config: { gpgcheck: 0 },
      }),
      {
        pub2: 'created_resources.0',
      },
    ),
    get('{pub2}'),
    get(`${publications}?repository={repo}&ordering=pulp_created`),
    get('publications/?repository={repo}&ordering=pulp_created'),
    get(`${publications}?content={v}`),
    ...each(
      [
        { name: 'x', base_path: 'x', generate_repo_config: 'x' },
        { name: 'x', base_path: 'x', publication: '{repo}' },
      ],
      (body) => post(distributions, body),
    ),
    done(post(distributions, { name: '{run}-zoo', base_path: '{run}-zoo', publication: '{pub}', generate_repo_config: true }), {
      dist: 'created_resources.0',
    }),
    get('{dist}'),
    done(post(distributions, { name: '{run}-bare', base_path: '{run}-bare', repository: '{repo}' }), {
      bare: 'created_resources.0',
    }),
    get('{bare}?exclude_fields=no_content_change_since'),
    get(`${distributions}?name={run}-zoo`),
    get(`${distributions}?with_content={v}`),
    get(`${at}/config.repo`),
    get('/pulp/content/{run}-bare/config.repo'),
    get('/pulp/content/{run}-bare/'),
    get(`${at}/`),
    get(at),
    get(`${at}/Packages/`),
    get(`${at}/Packages/b/`),
    get(`${at}/Packages/b`),
    get(`${at}/Packages/b/bear-zoo-{run}-4.1-1.noarch.rpm`),
    head(`${at}/Packages/b/bear-zoo-{run}-5.0-1.noarch.rpm`),
    get(`${at}/Packages/b/bear-zoo-{run}-5.0-1.noarch.rpm`, { headers: { range: 'bytes=2-4' } }),
    get(`${at}/Packages/b/bear-zoo-{run}-5.0-1.noarch.rpm`),
    get(`${at}/bear-zoo-{run}-5.0-1.noarch.rpm`),
    get(`${at}/repodata/nosuch`),
    head(`${at}/repodata/repomd.xml`),
    get(`${at}/.treeinfo`),
    get(`${at}/images/vmlinuz`),
    get(`${at}/repodata`),
    remove('{pub2}'),
    get('{pub2}'),
  ]
}

const advisory = (run: string) => ({
  id: `UP-${run}`,
  updated_date: '2024-03-04 00:00:00',
  issued_date: '2024-02-03 00:00:00',
  description: 'd',
  fromstr: 'f',
  status: 'final',
  title: 't',
  summary: 's',
  version: '1',
  type: 'bugfix',
  severity: 'Low',
  solution: '',
  release: '0',
  rights: '',
  pushcount: '',
  reboot_suggested: false,
  pkglist: [
    {
      name: 'c',
      short: 's',
      module: null,
      packages: [
        {
          arch: 'noarch',
          epoch: '0',
          filename: 'bear-4.1-1.noarch.rpm',
          name: 'bear',
          reboot_suggested: false,
          relogin_suggested: false,
          restart_suggested: false,
          release: '1',
          src: 'bear-4.1-1.src.rpm',
          sum: 'ab'.repeat(32),
          sum_type: 'sha256',
          version: '4.1',
        },
      ],
    },
  ],
  references: [{ href: 'http://example.org', ref_id: '1', title: 't', ref_type: 'cve' }],
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../../../../tests/databases.ts'
import { openPulp } from '../../../../tests/pulp.ts'

const path = 'repositories/file/file/'

forEachDatabase((engine, open) => {
  test(`${engine}: lists are filtered, ordered and cut into pages`, async (t) => {
    const { call, task } = await openPulp(t, await open(t))
    const hrefs: Record<string, string> = {}
    for (const [name, more] of [
      ['alpha', { retain_repo_versions: 3, pulp_labels: { env: 'prod', tier: '1' } }],
      ['beta', { pulp_labels: { env: 'test' } }],
      ['Beta 2', {}],
    ] as const)
      hrefs[name] = (await call('POST', path, { name, ...more })).body.pulp_href
    const names = async (query: string) => {
      const { status, body, text } = await call('GET', `${path}?${query}`)
      assert.equal(status, 200, `${query}: ${text}`)
      return body.results.map(({ name }: { name: string }) => name)
    }
    const expected: Record<string, string[]> = {
      '': ['Beta 2', 'beta', 'alpha'],
      'name=beta': ['beta'],
      'name__in=alpha,beta': ['beta', 'alpha'],
      'name__iexact=BETA': ['beta'],
      'name__contains=eta': ['Beta 2', 'beta'],
      'name__icontains=BETA': ['Beta 2', 'beta'],
      'name__startswith=b': ['beta'],
      'name__istartswith=B': ['Beta 2', 'beta'],
      'name__regex=^.eta$': ['beta'],
      'name__iregex=^B': ['Beta 2', 'beta'],
      'retain_repo_versions=3': ['alpha'],
      'retain_repo_versions__isnull=true': ['Beta 2', 'beta'],
      'retain_repo_versions__range=1,5': ['alpha'],
      'retain_repo_versions__ne=4': ['alpha'],
      'pulp_label_select=env': ['beta', 'alpha'],
      'pulp_label_select=env=prod,tier': ['alpha'],
      'pulp_label_select=!env': ['Beta 2'],
      'pulp_label_select=env!=prod': ['beta'],
      'pulp_label_select=env~RO': ['alpha'],
      'ordering=name': ['Beta 2', 'alpha', 'beta'],
      'ordering=-name&limit=1': ['beta'],
      'limit=0': ['Beta 2', 'beta', 'alpha'],
      'offset=2': ['alpha'],
      'name=': ['Beta 2', 'beta', 'alpha'],
      'remote=null': ['Beta 2', 'beta', 'alpha'],
      'q=name=alpha OR name=beta': ['beta', 'alpha'],
      'q=NOT name=alpha AND name__icontains=beta': ['Beta 2', 'beta'],
      'q=NOT retain_repo_versions=3': ['Beta 2', 'beta'],
      "q=name='Beta 2'": ['Beta 2'],
      'q=(name=alpha OR name=beta) AND pulp_label_select="env=prod"': ['alpha'],
      [`pulp_href__in=${hrefs['alpha']}`]: ['alpha'],
      [`prn__in=prn:file.filerepository:${hrefs['beta']!.split('/').at(-2)}`]: ['beta'],
    }
    for (const [query, want] of Object.entries(expected)) assert.deepEqual(await names(query), want, query)

    const first = (await call('GET', `${path}?name__icontains=eta&limit=1&fields=name`)).body
    assert.deepEqual(first, {
      count: 2,
      next: 'http://localhost:80/pulp/api/v3/repositories/file/file/?fields=name&limit=1&name__icontains=eta&offset=1',
      previous: null,
      results: [{ name: 'Beta 2' }],
    })
    const last = (await call('GET', first.next.slice('http://localhost:80'.length))).body
    assert.equal(last.next, null)
    assert.deepEqual(last.results, [{ name: 'beta' }])
    assert.equal('name' in (await call('GET', `${path}?exclude_fields=name`)).body.results[0], false)

    await task('PATCH', hrefs['beta']!, { retain_repo_versions: 1 })
    assert.deepEqual(await names('retain_repo_versions__lt=2'), ['beta'])
    assert.deepEqual(
      (await call('GET', 'repositories/?pulp_type__in=file.file&ordering=name')).body.results.map((each: any) => each.name),
      ['Beta 2', 'alpha', 'beta'],
    )
  })

  test(`${engine}: all that is wrong with a query is said at once`, async (t) => {
    const { call } = await openPulp(t, await open(t))
    await call('POST', path, { name: 'one' })
    const refused = async (query: string, expected: unknown) =>
      assert.deepEqual(await call('GET', `${path}?${query}`).then(({ status, body }) => [status, body]), [400, expected], query)
    await refused('retain_repo_versions=x&ordering=foo&zzz=1', {
      retain_repo_versions: ['Enter a number.'],
      ordering: ['Select a valid choice. foo is not one of the available choices.'],
      errors: ["Invalid Filter: 'zzz'"],
    })
    await refused('retain_repo_versions__range=1', { retain_repo_versions__range: ['Range query expects two values.'] })
    await refused('pulp_label_select=%3D', ["Invalid search term: '='."])
    await refused('remote=nonsense', ["URI couldn't be resolved: nonsense"])
    await refused('pulp_href__in=x', ['URI not valid: x'])
    await refused('prn__in=x', ["Not a valid PRN: x, must start with 'prn:'"])
    await refused('pulp_id__in=x', { pulp_id__in: ['Enter a valid UUID.'] })
    // A script whose variable is empty must not be told about everything.
    await refused('with_content=', ['No value supplied for content filter'])
    await refused('pulp_label_select=', ["Invalid search term: ''."])
    for (const query of ['pulp_href__in=', 'prn__in=', 'pulp_id__in='])
      assert.equal((await call('GET', `${path}?${query}`)).body.count, 0, query)
    // All that is wrong with the form of values, before anything is looked up.
    await refused('remote=x&pulp_id__in=x&retain_repo_versions__range=1&pulp_href__in=x', {
      pulp_id__in: ['Enter a valid UUID.'],
      retain_repo_versions__range: ['Range query expects two values.'],
    })
    for (const [lookup, pattern] of [
      ['regex', '(a)\\1'],
      ['iregex', '(?=a)(a*)*'],
    ])
      await refused(`name__${lookup}=${encodeURIComponent(pattern!)}`, {
        [`name__${lookup}`]: [
          `'${pattern}' is not a regular expression that is sure to be matched soon: it may have no backreferences, lookahead or large repetitions.`,
        ],
      })
    await refused('name__regex=(', { name__regex: ["'(' is not a regular expression."] })
    await refused('q=(name=a', { q: ['Syntax error in expression.'] })
    await refused('q=nme=a', { q: ["Filter 'nme' does not exist."] })
    await refused('q=ordering=name', { q: ['An ordering filter cannot be used in complex filtering.'] })
    await refused('q=retain_repo_versions=x', {
      q: ['{"retain_repo_versions": [{"message": "Enter a number.", "code": "invalid"}]}'],
    })
    await refused(`q=${Array.from({ length: 9 }, () => 'name=a').join(' OR ')}`, {
      q: ['Filter expression exceeds allowed complexity.'],
    })
  })
})

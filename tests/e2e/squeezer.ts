import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { type Pulp, work } from '../pulp.ts'

type Values = Record<string, unknown>

/** What pulp.squeezer 0.0.13 sends: everything after the server's OpenAPI document, JSON where that allows it, Basic unasked. */
export interface Squeezer {
  /** The module status: both ways to learn the versions must tell the same. */
  checkVersions(): Promise<void>
  /** Calls an operation by its id. Throws when the document does not have it, or not with these parameters. */
  call(id: string, parameters?: Record<string, string | number>, body?: Values, file?: Buffer): Promise<any>
  /** A request of the module uri, which the roles use beside squeezer's: a form where there is a body. */
  send(method: string, path: string, form?: Record<string, string>): Promise<{ status: number; body: any }>
  /** Waits for the task that was started. */
  task(started: { task: string }): Promise<any>
  /** The one thing of these operations with that key. */
  get(operations: string, key: Record<string, string>): Promise<any>
  /** All things, twenty at a time. */
  list(operations: string): Promise<any[]>
  /** Makes a thing, or changes those of its fields that differ. */
  present(operations: string, key: Record<string, string>, fields?: Values): Promise<any>
  absent(operations: string, key: Record<string, string>): Promise<void>
  sync(operations: string, repository: any, body: Values): Promise<void>
  artifact(bytes: Buffer): Promise<void>
  fileContent(path: string, sha256: string): Promise<void>
  repositoryContent(repository: any, present: readonly Record<string, string>[]): Promise<void>
  /** What was changed since this was last asked. */
  changes(): string[]
}

const pageSize = 20
const chunkSize = 512 * 1024
/** Things by the first word of their operations, as squeezer and its users call them. */
const singular: Record<string, string> = {
  repositories: 'repository',
  remotes: 'remote',
  publications: 'publication',
  distributions: 'distribution',
  content: 'content',
  artifacts: 'artifact',
}
/** Sent with every request, with a body or without. */
const defaults = { accept: 'application/json', 'content-type': 'application/json' }

export async function openSqueezer(pulp: Pulp): Promise<Squeezer> {
  const document = (await pulp.call('GET', '/pulp/api/v3/docs/api.json', undefined, { headers: defaults })).body
  const operations = new Map<string, { method: string; path: string; operation: any }>()
  for (const [path, item] of Object.entries<any>(document.paths))
    for (const [method, operation] of Object.entries<any>(item))
      operations.set(operation.operationId, { method, path, operation })
  let changed: string[] = []
  const change = (action: string, id: string) => void changed.push(`${action} ${singular[id.split('_')[0]!]}`)

  const call: Squeezer['call'] = async (id, parameters = {}, body, file) => {
    const found = operations.get(id)
    assert.ok(found, `the document has no operation ${id}`)
    const { method, path, operation } = found
    const declared = new Map<string, any>((operation.parameters ?? []).map((each: any) => [each.name, each]))
    for (const { name, required } of declared.values()) assert.ok(!required || name in parameters, `${id} needs ${name}`)
    const placed = (place: string) =>
      Object.entries(parameters).filter(([name]) => {
        assert.ok(declared.has(name), `${id} has no parameter ${name}`)
        return declared.get(name).in === place
      })
    let url = path
    for (const [name, value] of placed('path')) url = url.replace(`{${name}}`, String(value))
    const query = new URLSearchParams(placed('query').map(([name, value]) => [name, String(value)])).toString()
    const types = Object.keys(operation.requestBody?.content ?? {})
    const { payload, headers } = encode(types, body, file)
    const sent = { ...defaults, ...Object.fromEntries(placed('header')), ...headers } as Record<string, string>
    const answer = await pulp.call(method.toUpperCase(), query ? `${url}?${query}` : url, payload, { headers: sent })
    assert.ok(answer.status < 300, `${id} answered ${answer.status}: ${answer.text}`)
    return answer.body
  }

  const task: Squeezer['task'] = async (started) => {
    await work(pulp.ctx)
    const ended = await call('tasks_read', { task_href: started.task })
    assert.equal(ended.state, 'completed', JSON.stringify(ended.error))
    return ended
  }

  /** What stands for the href of a thing in the paths of its operations. */
  const placeholder = (id: string) => /^\{(\w+)\}/.exec(operations.get(id)!.path)![1]!
  const on = (id: string, { pulp_href: href }: any) => ({ [placeholder(id)]: href })
  const read = (of: string, href: string) => call(`${of}_read`, on(`${of}_read`, { pulp_href: href }))

  async function find(of: string, key: Record<string, string>): Promise<any> {
    const { count, results } = await call(`${of}_list`, { limit: 1, ...key })
    assert.ok(count <= 1, `${count} of ${of} have ${JSON.stringify(key)}`)
    return results[0]
  }

  async function create(of: string, body: Values, file?: Buffer): Promise<any> {
    change('create', of)
    const answer = await call(`${of}_create`, {}, body, file)
    if (!answer.task) return answer
    // The first of what was made is taken for the thing itself.
    return read(of, (await task(answer)).created_resources[0])
  }

  const squeezer: Squeezer = {
    call,
    task,
    async checkVersions() {
      const { versions } = await call('status_read')
      assert.deepEqual(
        Object.fromEntries(versions.map(({ component, version }: any) => [component, version])),
        document.info['x-pulp-app-versions'],
      )
    },
    async send(method, path, form) {
      const headers: Record<string, string> = form ? { 'content-type': 'application/x-www-form-urlencoded' } : {}
      return pulp.call(method, path, form && new URLSearchParams(form).toString(), { headers })
    },
    async get(of, key) {
      const found = await find(of, key)
      assert.ok(found, `none of ${of} has ${JSON.stringify(key)}`)
      return found
    },
    async list(of) {
      const all: any[] = []
      for (let offset = 0; ; offset += pageSize) {
        const { results, next } = await call(`${of}_list`, { limit: pageSize, offset })
        all.push(...results)
        if (!next) return all
      }
    },
    async present(of, key, fields = {}) {
      const known = await find(of, key)
      if (!known) return create(of, { ...key, ...fields })
      const different = Object.fromEntries(Object.entries(fields).filter(([name, value]) => known[name] !== value))
      if (Object.keys(different).length === 0) return known
      change('update', of)
      const id = `${of}_partial_update`
      const answer = await call(id, on(id, known), different)
      if (!answer.task) return answer
      await task(answer)
      return read(of, known.pulp_href)
    },
    async absent(of, key) {
      const known = await find(of, key)
      if (!known) return
      change('delete', of)
      const answer = await call(`${of}_delete`, on(`${of}_delete`, known))
      if (answer?.task) await task(answer)
    },
    async sync(of, repository, body) {
      const { created_resources } = await task(await call(`${of}_sync`, on(`${of}_sync`, repository), body))
      if (created_resources.length === 0) return
      assert.match(created_resources[0], /\/versions\/\d+\/$/)
      changed.push('sync')
    },
    async artifact(bytes) {
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      if (await find('artifacts', { sha256 })) return
      if (bytes.length <= chunkSize) return void (await create('artifacts', { sha256 }, bytes))
      changed.push('upload artifact')
      const upload = await call('uploads_create', {}, { size: bytes.length })
      for (let at = 0; at < bytes.length; at += chunkSize) {
        const chunk = bytes.subarray(at, at + chunkSize)
        const range = `bytes ${at}-${at + chunk.length - 1}/${bytes.length}`
        await call('uploads_update', { ...on('uploads_update', upload), 'Content-Range': range }, undefined, chunk)
      }
      const { created_resources } = await task(await call('uploads_commit', on('uploads_commit', upload), { sha256 }))
      assert.equal((await read('artifacts', created_resources[0])).sha256, sha256)
    },
    async fileContent(path, sha256) {
      if (await find('content_file_files', { sha256, relative_path: path })) return
      const artifact = await squeezer.get('artifacts', { sha256 })
      const made = await create('content_file_files', { relative_path: path, artifact: artifact.pulp_href })
      assert.equal(made.sha256, sha256)
    },
    async repositoryContent(repository, present) {
      const version = repository.latest_version_href
      const add: string[] = []
      for (const key of present)
        if (!(await find('content_file_files', { ...key, repository_version: version })))
          add.push((await squeezer.get('content_file_files', key)).pulp_href)
      if (add.length === 0) return
      changed.push('modify')
      const body = { add_content_units: add, remove_content_units: [], base_version: version }
      const id = 'repositories_file_file_modify'
      const { created_resources } = await task(await call(id, on(id, repository), body))
      assert.match(created_resources[0], /\/versions\/\d+\/$/)
    },
    changes() {
      const since = changed
      changed = []
      return since
    },
  }
  return squeezer
}

/** JSON if the document offers it, else a form; files in parts as squeezer writes them. */
function encode(types: readonly string[], body: Values | undefined, file: Buffer | undefined) {
  if (file) {
    assert.ok(types.includes('multipart/form-data'))
    const boundary = randomBytes(16).toString('hex')
    return {
      payload: inParts(boundary, body ?? {}, file),
      headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    }
  }
  if (!body) return { payload: undefined, headers: {} }
  if (types.includes('application/json')) return { payload: JSON.stringify(body), headers: {} }
  assert.ok(types.includes('application/x-www-form-urlencoded'))
  const form = new URLSearchParams(Object.entries(body).map(([name, value]) => [name, String(value)]))
  return { payload: form.toString(), headers: { 'content-type': 'application/x-www-form-urlencoded' } }
}

/** No form-data for files, and no line break at the end. */
function inParts(boundary: string, body: Values, file: Buffer): Buffer {
  const lines: (string | Buffer)[] = Object.entries(body).flatMap(([name, value]) => [
    `--${boundary}`,
    `Content-Disposition: form-data; name="${name}"`,
    '',
    String(value),
  ])
  lines.push(
    `--${boundary}`,
    'Content-Disposition: file; name="file"; filename="file"',
    'Content-Type: application/octet-stream',
    '',
  )
  lines.push(file, `--${boundary}--`)
  return Buffer.concat(lines.flatMap((line, index) => [Buffer.from(index === 0 ? '' : '\r\n'), Buffer.from(line as string)]))
}

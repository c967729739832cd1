import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { cannotTrace, temporaryDirectory } from './run.ts'
import { adminPassword, program, readyUrl, startServer } from './server.ts'

/*
 * A 201 survives a power cut: before it is sent, the bytes are on the disk, then their name, then the row. strace writes down in which order
 * the server asks for it; that the disk does as it is asked no test can tell.
 */

/** A call, where it began and where it ended among all that were written down. */
interface Call {
  name: string
  text: string
  began: number
  ended: number
}

/** Lines of `strace -f -y`; a call that others came between is on two. */
function parseCalls(log: string): Call[] {
  const calls: Call[] = []
  const open = new Map<string, Call>()
  for (const [index, line] of log.split('\n').entries()) {
    const begun = /^(\d+) +(\w+)\((.*)$/.exec(line)
    const resumed = /^(\d+) +<\.\.\. (\w+) resumed>(.*)$/.exec(line)
    if (begun) {
      const call = { name: begun[2]!, text: begun[3]!, began: index, ended: index }
      calls.push(call)
      if (line.endsWith('<unfinished ...>')) open.set(begun[1]!, call)
    } else if (resumed) {
      const call = open.get(resumed[1]!)
      if (call) Object.assign(call, { ended: index, text: call.text + resumed[3] })
      open.delete(resumed[1]!)
    }
  }
  return calls
}

/** The first call of this kind that began after another one had ended. */
function after(calls: readonly Call[], before: Call | undefined, name: RegExp, text: RegExp, what: string): Call {
  const found = calls.find((call) => call.began > (before?.ended ?? -1) && name.test(call.name) && text.test(call.text))
  assert.ok(
    found,
    `${what} is missing after ${before ? `${before.name}(${before.text}` : 'the beginning'}:\n${calls.map((each) => `${each.name}(${each.text}`).join('\n')}`,
  )
  return found
}

const authorization = `Basic ${Buffer.from(`admin:${adminPassword}`).toString('base64')}`
const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

test('before a 201 is sent, bytes, names and rows were asked onto the disk, in this order', { timeout: 120_000 }, async (t) => {
  const reason = await cannotTrace()
  if (reason) return t.skip(reason)
  const directory = await temporaryDirectory(t)
  const server = await startServer(t, { env: { SIGNALBOX_DATABASE: join(directory, 'signalbox.db') } })

  /** What the server does while a request is answered. */
  async function trace(
    method: string,
    path: string,
    body: Uint8Array | FormData,
    headers: Record<string, string> = {},
    status = 201,
  ): Promise<Call[]> {
    const log = join(directory, 'calls')
    const calls = 'trace=fsync,fdatasync,rename,link,mkdir,pwrite64,write,writev,sendto'
    const strace = spawn('strace', ['-f', '-y', '-p', `${server.pid()}`, '-o', log, '-e', calls], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const ended = new Promise<void>((resolve) => strace.once('exit', () => resolve()))
    await new Promise<void>((resolve) => strace.stderr.on('data', () => resolve()))
    const answer = await fetch(new URL(path, server.url), {
      method,
      headers: { authorization, ...headers },
      body: body instanceof FormData ? body : Buffer.from(body),
    })
    assert.equal(answer.status, status, await answer.text())
    strace.kill('SIGINT')
    await ended
    return parseCalls(await readFile(log, 'utf8'))
  }

  /** The end of all: the row, and then the answer. No answer may be before that. */
  function commitAndAnswer(calls: readonly Call[], before: Call | undefined, status = 201): void {
    const row = after(calls, before, /^pwrite64$/, /signalbox\.db-wal>/, 'the row')
    const commit = after(calls, row, /^f(data)?sync$/, /signalbox\.db-wal>.* = 0$/, 'the commit')
    const answer = after(calls, undefined, /^(write|writev|sendto)$/, new RegExp(`HTTP/1\\.1 ${status}`), 'the answer')
    assert.ok(answer.began > commit.ended, 'the answer came before the commit')
  }

  const begin = async () => {
    const answer = await fetch(new URL('/v2/power/app/blobs/uploads/', server.url), {
      method: 'POST',
      headers: { authorization },
    })
    return answer.headers.get('location')!
  }
  const blob = randomBytes(300_000)
  const small = Buffer.from('{"architecture":"amd64","os":"linux"}')
  await begin()

  for (const bytes of [blob, small]) {
    const digest = digestOf(bytes)
    const [start, rest] = [digest.slice(7, 9), digest.slice(9)]
    const calls = await trace('POST', `/v2/power/app/blobs/uploads/?digest=${digest}`, bytes)
    const synced = after(calls, undefined, /^fsync$/, /blobs\/(tmp|growing)\/[^>]*>.* = 0$/, 'the bytes')
    const named = after(calls, synced, /^rename$/, new RegExp(`sha256/${start}/${rest}".* = 0$`), 'the name')
    const kept = after(calls, named, /^fsync$/, new RegExp(`sha256/${start}>.* = 0$`), 'the directory')
    commitAndAnswer(calls, kept)
    // The first in its directory.
    if (bytes !== blob) continue
    const made = after(calls, undefined, /^mkdir$/, new RegExp(`sha256/${start}"`), 'the making of the directory')
    const madeKept = after(calls, made, /^fsync$/, /blobs\/sha256>.* = 0$/, 'the directory above')
    assert.ok(madeKept.ended < named.began, 'the directory was durable before something was in it')
  }

  const chunked = randomBytes(200_000)
  const location = await begin()
  await fetch(new URL(location, server.url), { method: 'PATCH', headers: { authorization }, body: chunked })
  const grown = await trace('PUT', `${location}?digest=${digestOf(chunked)}`, new Uint8Array())
  const [start, rest] = [digestOf(chunked).slice(7, 9), digestOf(chunked).slice(9)]
  const synced = after(grown, undefined, /^fsync$/, /blobs\/(tmp|growing)\/[^>]*>.* = 0$/, 'the bytes')
  const named = after(grown, synced, /^rename$/, new RegExp(`sha256/${start}/${rest}".* = 0$`), 'the name')
  commitAndAnswer(grown, after(grown, named, /^fsync$/, new RegExp(`sha256/${start}>.* = 0$`), 'the directory'))

  const describe = (bytes: Buffer, mediaType: string) => ({ mediaType, digest: digestOf(bytes), size: bytes.length })
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const config = describe(small, 'application/vnd.oci.image.config.v1+json')
  const layers = [blob, chunked].map((bytes) => describe(bytes, 'application/vnd.oci.image.layer.v1.tar'))
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers }))
  commitAndAnswer(await trace('PUT', '/v2/power/app/manifests/latest', manifest, { 'content-type': mediaType }), undefined)

  // A chunk of an upload of Pulp's, which is there already when its commit is asked for.
  const upload = await server.api.post<{ pulp_href: string }>('uploads/', { size: chunked.length })
  const form = new FormData()
  form.set('file', new Blob([chunked]), 'chunk')
  const range = { 'content-range': `bytes 0-${chunked.length - 1}/*` }
  const part = await trace('PUT', upload.pulp_href, form, range, 200)
  const written = after(part, undefined, /^fsync$/, /\/uploads\/[^>]*>.* = 0$/, 'the chunk')
  commitAndAnswer(part, after(part, written, /^fsync$/, /\/uploads>.* = 0$/, 'the directory of uploads'), 200)
})

test('the password that a first start makes up is on the disk before anybody can be asked for it', {
  timeout: 120_000,
}, async (t) => {
  const reason = await cannotTrace()
  if (reason) return t.skip(reason)
  const directory = await temporaryDirectory(t)
  const log = join(directory, 'calls')
  const data = join(directory, 'var/data')
  const calls = 'trace=fsync,fdatasync,mkdir,pwrite64'
  const words = ['-f', '-y', '-o', log, '-e', calls, program, 'serve', '--data', data, '--listen', '127.0.0.1:0']
  const strace = spawn('strace', words, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, SIGNALBOX_LOG: 'warn' } })
  const ended = new Promise<void>((resolve) => strace.once('exit', () => resolve()))
  try {
    await readyUrl(strace)
  } finally {
    // strace goes when the server goes.
    process.kill(Number(await readFile(`/proc/${strace.pid}/task/${strace.pid}/children`, 'utf8')), 'SIGKILL')
    await ended
  }
  const made = parseCalls(await readFile(log, 'utf8'))
  const kept = after(
    made,
    after(made, undefined, /^mkdir$/, /var\/data"/, 'the data directory'),
    /^fsync$/,
    /\/var>.* = 0$/,
    'its name',
  )
  const text = after(made, kept, /^fsync$/, /admin-password>.* = 0$/, 'the password')
  const named = after(made, text, /^fsync$/, /\/data>.* = 0$/, 'the name of its file')
  after(made, named, /^f(data)?sync$/, /signalbox\.db-wal>.* = 0$/, 'the administrator')
})

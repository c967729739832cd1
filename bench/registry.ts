import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { Agent, request as send } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, execute, median, reportMachine, startServer, temporary } from './measure.ts'
import { findProgram } from './programs.ts'

/*
 * The registry beside CNCF distribution 3 (`registry`) and Debian's docker-registry, in one run, in time and in the server's own processor
 * time: a shared machine makes the first worth little. Both are looked for in the folder that PEERS names, then in PATH.
 */

const runs = 5
const large = randomBytes(512 * 1024 * 1024)
const small = randomBytes(4096)
const pushes = 40
const manyTags = 10_000

interface Peer {
  name: string
  url: string
  pid: number
  /** What lets the client push. */
  authorization?: string
}

interface Cost {
  seconds: number
  /** Processor seconds of the server, user and system. */
  cpu: number
}

export async function bench(args: readonly string[]): Promise<void> {
  reportMachine()
  const only = new Set(args)
  await using work = await temporary()
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startServer(join(work.path, 'ours')))
  const ours: Peer = { name: 'Signalbox', url: server.url, pid: server.pid, authorization: basic('admin', server.password) }
  const peers = [ours]
  for (const program of ['registry', 'docker-registry']) {
    const path = await findProgram(program)
    if (!path) console.log(`${program} is not here: not compared. PEERS names the folder of peers.\n`)
    else peers.push(stack.use(await startPeer(program, path, join(work.path, program))))
  }
  for (const [what, measure] of Object.entries({ large: benchLarge, small: benchSmall, pushes: benchPushes, tags: benchTags }))
    if (only.size === 0 || only.has(what)) await measure(peers, ours)
}

interface Asked {
  what: string
  peer: Peer
  path: string
  headers: readonly string[]
  head?: boolean
}

async function benchLarge(peers: readonly Peer[]): Promise<void> {
  const push = table()
  const pull = table()
  const digest = digestOf(large)
  for (let run = 0; run < runs; run++)
    for (const peer of peers) {
      push.add(peer, await cost(peer, () => pushInSteps(peer, `bench/large-${run}`, large, digest)))
      pull.add(peer, await cost(peer, () => drain(peer, `/v2/bench/large-${run}/blobs/${digest}`)))
    }
  push.print('push 512 MiB', 1, 's')
  pull.print('pull 512 MiB', 1, 's')
}

/** Small answers, by wrk: what one costs the server. */
async function benchSmall(peers: readonly Peer[], ours: Peer): Promise<void> {
  const targets: Asked[] = []
  for (const peer of peers) {
    const image = await pushSmall(peer, 'bench/small', 'latest')
    const manifest = '/v2/bench/small/manifests/latest'
    const own = peer.authorization ? [`Authorization: ${peer.authorization}`] : []
    const how = peer === ours ? ' with Basic' : ''
    targets.push(
      { what: `manifest GET${how}`, peer, path: manifest, headers: own },
      { what: `manifest HEAD${how}`, peer, path: manifest, headers: own, head: true },
      { what: `4 KiB blob GET${how}`, peer, path: `/v2/bench/small/blobs/${image.blob}`, headers: own },
    )
  }
  const token = await tokenOf(ours, 'repository:bench/small:pull')
  targets.push({
    what: 'manifest GET with Bearer',
    peer: ours,
    path: '/v2/bench/small/manifests/latest',
    headers: [`Authorization: Bearer ${token}`],
  })
  await openToAll(ours, 'bench/small')
  targets.push({ what: 'manifest GET', peer: ours, path: '/v2/bench/small/manifests/latest', headers: [] })
  const measured = new Map(targets.map((target) => [target, [] as number[]]))
  for (let run = 0; run < runs; run++) for (const target of targets) measured.get(target)!.push(await microseconds(target))
  for (const [{ what, peer }, values] of measured) line(`${what}, ${peer.name}`, values, 'µs CPU', 0)
  console.log()
}

/** Small images, each of one layer and one config: into one repository, and each into its own. */
async function benchPushes(peers: readonly Peer[]): Promise<void> {
  const one = table()
  const many = table()
  for (let run = 0; run < runs; run++)
    for (const peer of peers) {
      const push = (name: (index: number) => string) => async () => {
        for (let index = 0; index < pushes; index++) await pushSmall(peer, name(index), `t${run}-${index}`)
      }
      one.add(
        peer,
        await cost(
          peer,
          push(() => 'bench/one'),
        ),
        pushes,
      )
      many.add(
        peer,
        await cost(
          peer,
          push((index) => `bench/many-${run}-${index}`),
        ),
        pushes,
      )
    }
  one.print('push a small image into one repository', 1000, 'ms')
  many.print('push a small image into its own repository', 1000, 'ms')
}

/** What one more tag costs when there are few, and when there are many. Of ours only: the others take minutes. */
async function benchTags(_: readonly Peer[], ours: Peer): Promise<void> {
  const { manifest } = await pushSmall(ours, 'bench/tags', 'first')
  const tag = (name: string) =>
    call(ours, 'PUT', `/v2/bench/tags/manifests/${name}`, manifest.bytes, { 'content-type': ociManifest })
  const some = async (from: number, count: number) => {
    for (let index = from; index < from + count; index++) await tag(`t${index}`)
  }
  const first = await cost(ours, () => some(0, 200))
  for (let at = 200; at < manyTags - 200; at += 100)
    await Promise.all([0, 1, 2, 3].map((lane) => some(at + lane * 25, Math.min(25, manyTags - 200 - at))))
  const last = await cost(ours, () => some(manyTags - 200, 200))
  for (const [what, { seconds, cpu }] of [
    ['the first 200', first],
    ['the last 200', last],
  ] as const)
    console.log(
      `${`a tag, ${what} of ${manyTags}`.padEnd(46)} ${(seconds * 5).toFixed(2).padStart(8)} ms ${(cpu * 5).toFixed(2).padStart(8)} ms CPU`,
    )
}

const ociManifest = 'application/vnd.oci.image.manifest.v1+json'

/** Pushes an image of a layer of a few bytes. */
async function pushSmall(peer: Peer, name: string, tag: string) {
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', id: randomBytes(8).toString('hex') }))
  const layer = name === 'bench/small' ? small : randomBytes(1000)
  const describe = (mediaType: string, bytes: Buffer) => ({ mediaType, digest: digestOf(bytes), size: bytes.length })
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: ociManifest,
      config: describe('application/vnd.oci.image.config.v1+json', config),
      layers: [describe('application/vnd.oci.image.layer.v1.tar', layer)],
    }),
  )
  for (const blob of [config, layer]) await pushInSteps(peer, name, blob, digestOf(blob))
  await call(peer, 'PUT', `/v2/${name}/manifests/${tag}`, bytes, { 'content-type': ociManifest })
  return { blob: digestOf(layer), manifest: { bytes } }
}

/** As docker, podman and skopeo do it: POST, PATCH, PUT. */
async function pushInSteps(peer: Peer, name: string, bytes: Buffer, digest: string): Promise<void> {
  const begun = await call(peer, 'POST', `/v2/${name}/blobs/uploads/`)
  const added = await call(peer, 'PATCH', begun.location, bytes, { 'content-type': 'application/octet-stream' })
  await call(peer, 'PUT', `${added.location}${added.location.includes('?') ? '&' : '?'}digest=${digest}`)
}

const agent = new Agent({ keepAlive: true })

async function call(
  peer: Peer,
  method: string,
  path: string,
  body: Buffer = Buffer.alloc(0),
  headers: Record<string, string> = {},
): Promise<{ location: string; text: string }> {
  const authorization = peer.authorization ? { authorization: peer.authorization } : {}
  const length = { 'content-length': String(body.length) }
  const request = send(new URL(path, peer.url), { method, agent, headers: { ...authorization, ...length, ...headers } })
  // In parts, so that what is sent is not copied as a whole.
  for (let at = 0; at < body.length; at += 1 << 20)
    if (!request.write(body.subarray(at, at + (1 << 20)))) await once(request, 'drain')
  request.end()
  const [response] = await once(request, 'response')
  let text = ''
  for await (const chunk of response) text += chunk
  if (response.statusCode >= 300) throw new Error(`${peer.name}: ${method} ${path} answered ${response.statusCode}: ${text}`)
  return { location: response.headers.location ?? '', text }
}

async function drain(peer: Peer, path: string): Promise<void> {
  const header = peer.authorization ? ['-H', `Authorization: ${peer.authorization}`] : []
  await execute('curl', ['-sf', '-o', '/dev/null', ...header, new URL(path, peer.url).href])
}

async function tokenOf(peer: Peer, scope: string): Promise<string> {
  return JSON.parse((await call(peer, 'GET', `/token?scope=${scope}`)).text).token
}

/** Makes what was pushed public. */
async function openToAll(peer: Peer, name: string): Promise<void> {
  const api = '/pulp/api/v3/distributions/container/container/'
  const { results } = JSON.parse((await call(peer, 'GET', `${api}?name=${encodeURIComponent(name)}`)).text)
  const body = Buffer.from(JSON.stringify({ private: false }))
  await call(peer, 'PATCH', results[0].pulp_href, body, { 'content-type': 'application/json' })
  await sleep(500)
}

/** What one answer costs the server. */
async function microseconds({ peer, path, headers, head }: Asked): Promise<number> {
  const url = new URL(path, peer.url)
  let requests = 0
  const { cpu } = await cost(peer, async () => {
    requests = await (head ? countHeads(url, headers) : countGets(url, headers))
  })
  return (cpu / requests) * 1e6
}

async function countGets(url: URL, headers: readonly string[]): Promise<number> {
  const options = [...headers, `Accept: ${ociManifest}`].flatMap((header) => ['-H', header])
  const { stdout } = await execute('wrk', ['-t1', '-c8', '-d3s', ...options, url.href])
  if (/Non-2xx/.test(stdout)) throw new Error(`${url.href} did not answer 200:\n${stdout}`)
  return Number(/(\d+) requests in/.exec(stdout)![1])
}

/** wrk waits for bodies that answers to HEAD do not have. */
async function countHeads(url: URL, headers: readonly string[]): Promise<number> {
  const given = Object.fromEntries(headers.map((header) => header.split(': ', 2)))
  const until = performance.now() + 3000
  let count = 0
  const ask = async () => {
    for (; performance.now() < until; count++) {
      const request = send(url, { method: 'HEAD', agent, headers: { accept: ociManifest, ...given } }).end()
      const [response] = await once(request, 'response')
      response.resume()
      await once(response, 'end')
      if (response.statusCode !== 200) throw new Error(`HEAD of ${url.href} answered ${response.statusCode}`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, ask))
  return count
}

async function cost(peer: Peer, act: () => Promise<unknown>): Promise<Cost> {
  const [start, before] = [performance.now(), await processorSeconds(peer.pid)]
  await act()
  return { seconds: (performance.now() - start) / 1000, cpu: (await processorSeconds(peer.pid)) - before }
}

/** Of a process and its threads, as the kernel counts them: in hundredths. */
async function processorSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function table() {
  const costs = new Map<Peer, Cost[]>()
  return {
    add(peer: Peer, { seconds, cpu }: Cost, of = 1) {
      costs.set(peer, [...(costs.get(peer) ?? []), { seconds: seconds / of, cpu: cpu / of }])
    },
    print(what: string, factor: number, unit: string) {
      for (const [{ name }, all] of costs) {
        line(
          `${what}, ${name}`,
          all.map(({ cpu }) => cpu * factor),
          `${unit} CPU`,
          2,
        )
        line(
          `${what}, ${name}`,
          all.map(({ seconds }) => seconds * factor),
          unit,
          2,
        )
      }
      console.log()
    },
  }
}

function line(what: string, values: readonly number[], unit: string, digits: number): void {
  const all = values.map((value) => value.toFixed(digits)).join(' ')
  console.log(`${what.padEnd(58)} ${median(values).toFixed(digits).padStart(8)} ${unit.padEnd(7)} [${all}]`)
}

async function startPeer(name: string, path: string, directory: string): Promise<Peer & AsyncDisposable> {
  const port = await freePort()
  await mkdir(directory)
  const config = join(directory, 'config.yml')
  await writeFile(
    config,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${join(directory, 'data')}}, delete: {enabled: true}}
http: {addr: "127.0.0.1:${port}"}
`,
  )
  const child: ChildProcess = spawn(path, ['serve', config], { stdio: 'ignore' })
  const url = `http://127.0.0.1:${port}`
  for (let attempt = 0; attempt < 50; attempt++) {
    if (
      await fetch(`${url}/v2/`).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      break
    await sleep(200)
  }
  return {
    name: name === 'registry' ? 'distribution 3' : 'docker-registry 2.8',
    url,
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

const digestOf = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const basic = (name: string, password: string) => `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`

import { createServer, type Server, type Socket } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'

/*
 * A disk in memory, served as a network block device: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md. What was written
 * since the last flush is in its cache. At a power cut it forgets all of that, or keeps some of it in no order, a part of a write perhaps:
 * a real disk may do any of these. It is a thread of its own, because whoever waits for it must not be who serves it.
 */

/** What the rig tells it. */
export type Told =
  /** Serves, with an empty cache. */
  | { power: 'on' }
  /** At once, or when so many more writes have come. */
  | { power: 'cut'; after?: number }

/** What it tells the rig. */
export type Tells =
  | { state: 'on' }
  /** How many writes had come since it was on, how many flushes, and how many writes were in the cache and how many of those survived. */
  | { state: 'cut'; writes: number; flushes: number; cached: number; survived: number }

const { socket, size } = workerData as { socket: string; size: number }
const sector = 512

const kept = Buffer.alloc(size)
let seen = Buffer.alloc(0)
let cache: { at: number; bytes: Buffer }[] = []
let counts = { writes: 0, flushes: 0 }
let cutAt: number | undefined
let server: Server | undefined
const connections = new Set<Socket>()

const tell = (told: Tells) =>
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage(told)

parentPort!.on('message', (told: Told) => {
  if (told.power === 'cut') {
    if (told.after === undefined) return cut()
    cutAt = counts.writes + told.after
    return
  }
  seen = Buffer.from(kept)
  counts = { writes: 0, flushes: 0 }
  cutAt = undefined
  server = createServer(serve).listen(socket, () => tell({ state: 'on' }))
})

function cut(): void {
  if (!server) return
  server.close()
  server = undefined
  for (const each of connections) each.destroy()
  const cached = cache.length
  const survivors = surviving(cache)
  for (const { at, bytes } of survivors) bytes.copy(kept, at)
  cache = []
  tell({ state: 'cut', ...counts, cached, survived: survivors.length })
}

/** Nothing, or some at random, of which the last may be torn. */
function surviving(writes: typeof cache): typeof cache {
  if (Math.random() < 0.5) return []
  const share = Math.random()
  const some = writes.filter(() => Math.random() < share)
  const torn = some.pop()
  if (!torn) return some
  return [
    ...some,
    { at: torn.at, bytes: torn.bytes.subarray(0, sector * Math.ceil((Math.random() * torn.bytes.length) / sector)) },
  ]
}

function serve(connection: Socket): void {
  connections.add(connection)
  connection.once('close', () => connections.delete(connection))
  connection.on('error', () => {})
  converse(connection).catch(() => connection.destroy())
}

async function converse(connection: Socket): Promise<void> {
  const read = openReader(connection)
  await agree(connection, read)
  for (;;) {
    const request = await read(28)
    const type = request.readUInt16BE(6)
    const at = Number(request.readBigUInt64BE(16))
    const length = request.readUInt32BE(24)
    // Read, write, disconnect, flush.
    if (type === 2) return void connection.end()
    if (type === 1) write(at, Buffer.from(await read(length)))
    if (type === 3) flush()
    // That was the last write.
    if (!server) return
    const known = type === 0 || type === 1 || type === 3
    const reply = Buffer.alloc(16)
    reply.writeUInt32BE(0x67446698, 0)
    reply.writeUInt32BE(known ? 0 : 22, 4)
    request.copy(reply, 8, 8, 16)
    connection.write(type === 0 ? Buffer.concat([reply, seen.subarray(at, at + length)]) : reply)
  }
}

function write(at: number, bytes: Buffer): void {
  bytes.copy(seen, at)
  cache.push({ at, bytes })
  if (++counts.writes === cutAt) cut()
}

function flush(): void {
  counts.flushes++
  for (const { at, bytes } of cache) bytes.copy(kept, at)
  cache = []
}

/** The fixed newstyle handshake: the only export is the whole disk, which can be flushed. */
async function agree(connection: Socket, read: (length: number) => Promise<Buffer>): Promise<void> {
  connection.write(Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'))
  await read(4)
  for (;;) {
    const head = await read(16)
    const option = head.readUInt32BE(8)
    await read(head.readUInt32BE(12))
    const reply = (type: number, data: Buffer) => {
      const start = Buffer.alloc(20)
      start.writeBigUInt64BE(0x3e889045565a9n, 0)
      start.writeUInt32BE(option, 8)
      start.writeUInt32BE(type, 12)
      start.writeUInt32BE(data.length, 16)
      connection.write(Buffer.concat([start, data]))
    }
    // INFO and GO are answered with size and flags (it has flags, it takes flushes), anything else is unsupported.
    if (option !== 6 && option !== 7) {
      reply(0x80000001, Buffer.alloc(0))
      continue
    }
    const info = Buffer.alloc(12)
    info.writeBigUInt64BE(BigInt(size), 2)
    info.writeUInt16BE(1 | 4, 10)
    reply(3, info)
    reply(1, Buffer.alloc(0))
    if (option === 7) return
  }
}

function openReader(connection: Socket): (length: number) => Promise<Buffer> {
  const chunks = connection[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let rest: Buffer = Buffer.alloc(0)
  return async (length) => {
    const parts = [rest]
    let have = rest.length
    while (have < length) {
      const { value, done } = await chunks.next()
      if (done) throw new Error('The client is gone.')
      parts.push(value)
      have += value.length
    }
    const all = parts.length === 1 ? rest : Buffer.concat(parts, have)
    rest = all.subarray(length)
    return all.subarray(0, length)
  }
}

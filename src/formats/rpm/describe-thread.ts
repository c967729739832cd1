import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { Failure } from '../../lib/failure.ts'
import { packTexts } from '../../lib/packing.ts'
import { type DescribedPackages, describePackages } from './describe-packages.ts'
import type { FromDescriber, ListName, ThreadOrder, ToDescriber } from './describe-in-thread.ts'
import { unpackList } from './upstream-repository.ts'

/* What runs in the thread that describe-in-thread.ts starts. */

/** Chunks of a list that are asked for before they are needed. */
const ahead = 2
/** Batches that may wait for the other thread. Their entries are compressed, so they are small. */
const mostUnread = 3

if (parentPort) await run(parentPort, workerData as ThreadOrder)

async function run(port: MessagePort, { lists, ...order }: ThreadOrder): Promise<void> {
  const say = (message: FromDescriber) => port.postMessage(message)
  const feeds = new Map<ListName, ReturnType<typeof openFeed>>()
  let unread = 0
  let read = Promise.withResolvers<void>()
  port.on('message', (message: ToDescriber) => {
    if (message.kind === 'chunk') return feeds.get(message.list)!.add(message.bytes)
    unread--
    read.resolve()
    read = Promise.withResolvers()
  })
  function open(list: ListName): AsyncIterable<Buffer> | undefined {
    const limit = lists.get(list)
    if (limit === undefined) return undefined
    const feed = openFeed(() => say({ kind: 'want', list }))
    feeds.set(list, feed)
    return unpackList(list, feed.bytes(), limit)
  }
  try {
    for await (const batch of describePackages(
      { primary: open('primary')!, filelists: open('filelists'), other: open('other') },
      order,
    )) {
      if (unread >= mostUnread) await read.promise
      unread++
      say({ kind: 'batch', batch: packed(batch) })
    }
    say({ kind: 'done' })
  } catch (error) {
    say({ kind: 'failed', code: error instanceof Failure ? error.code : undefined, message: String((error as Error).message) })
  }
  port.close()
}

function packed({ units, ...rest }: DescribedPackages): Extract<FromDescriber, { kind: 'batch' }>['batch'] {
  const texts = packTexts(units.flatMap(({ entry }) => entry ?? []))
  return {
    ...rest,
    units: units.map(({ entry, files, ...unit }) => ({
      ...unit,
      ...(entry && { packed: texts.shift()! }),
      files: files.map((file) => ({ ...file, urls: (file.urls ?? []).map(String) })),
    })),
  }
}

/** Bytes that come as messages, as a stream. */
function openFeed(want: () => void) {
  const waiting: (Uint8Array | null)[] = []
  let came = Promise.withResolvers<void>()
  return {
    add(bytes: Uint8Array | null): void {
      waiting.push(bytes)
      came.resolve()
    },
    async *bytes(): AsyncGenerator<Uint8Array> {
      for (let asked = 0; asked < ahead; asked++) want()
      for (;;) {
        while (waiting.length === 0) {
          came = Promise.withResolvers()
          await came.promise
        }
        const bytes = waiting.shift()!
        if (bytes === null) return
        want()
        yield bytes
      }
    },
  }
}

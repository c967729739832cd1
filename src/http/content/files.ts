import type { IncomingMessage, ServerResponse } from 'node:http'
import { open } from 'node:fs/promises'
import type { Arrival } from '../../core/serving/arrival.ts'
import type { OnDemand } from '../../core/serving/on-demand.ts'
import type { Served } from '../../core/serving/served.ts'
import { Failure } from '../../lib/failure.ts'
import type { BlobStore, Range } from '../../store/blobs.ts'
import type { FsBlobStore } from '../../store/fs.ts'
import { type Body, endWith, partOf } from './body.ts'
import { decideWish, type Facts, type Wish } from './conditions.ts'
import { mediaTypeOf } from './media-types.ts'
import { sendChunks } from './send.ts'
import type { FileSender } from './send-file.ts'
import { smallBlob, type SmallBlobs } from './small-blobs.ts'

export type Blob = Extract<Served, { kind: 'blob' }>
type Remote = Extract<Served, { kind: 'remote' }>

/** The headers of a file, made once. */
export interface Head extends Facts {
  /** For every answer that is about the file. */
  always: readonly string[]
  /** For the whole body, from memory. */
  whole: string[]
}

export function headOf(blob: Blob): Head {
  const etag = `"${blob.sha256}"`
  const lastModified = new Date(blob.modified / 1000).toUTCString()
  const size = String(blob.size)
  const always = [...aboutFile(blob), 'ETag', etag, 'Last-Modified', lastModified, 'X-PULP-ARTIFACT-SIZE', size]
  return {
    etag,
    lastModified,
    size: blob.size,
    always,
    whole: [...always, 'Accept-Ranges', 'bytes', 'X-PULP-CACHE', 'HIT', 'Content-Length', size],
  }
}

function aboutFile({ path, headers }: { path: string; headers: Record<string, string> }): string[] {
  const type = mediaTypeOf(path) ?? 'application/octet-stream'
  // What others wrote must not run as if it were this server's.
  const policy = /html|svg|xml/.test(type) ? ['Content-Security-Policy', 'sandbox'] : []
  return ['Content-Type', type, 'X-Content-Type-Options', 'nosniff', ...policy, ...Object.entries(headers).flat()]
}

/** Sends the whole file at once, unless the request asks for anything else. */
export function sendFromMemory({ headers }: IncomingMessage, res: ServerResponse, head: Head, body: Body): boolean {
  if (
    headers.range !== undefined ||
    headers['if-none-match'] !== undefined ||
    headers['if-modified-since'] !== undefined ||
    headers['if-match'] !== undefined ||
    headers['if-unmodified-since'] !== undefined
  )
    return false
  res.writeHead(200, head.whole)
  endWith(res, body)
  return true
}

/** What sending blobs takes. */
export interface Stock {
  blobs: BlobStore
  small: SmallBlobs
  files: FileSender
}

export async function sendBlob(
  { blobs, small, files }: Stock,
  req: IncomingMessage,
  res: ServerResponse,
  blob: Blob,
  head: Head,
  hit: boolean,
): Promise<void> {
  const wish = decideWish(req.headers, head)
  const headers = [...head.always, 'X-PULP-CACHE', hit ? 'HIT' : 'MISS']
  const part = begin(req, wish, head)
  if (!part) return sendHead(res, wish, head, headers)
  if (blob.size <= smallBlob) {
    const body = small.find(blob.sha256) ?? (await small.read(blob.sha256))
    sendHead(res, wish, head, headers)
    endWith(res, partOf(body, part))
    return
  }
  if (!('pathOf' in blobs)) {
    const stream = await blobs.open(blob.sha256, part)
    sendHead(res, wish, head, headers)
    return sendChunks(res, stream)
  }
  const file = await open((blobs as FsBlobStore).pathOf(blob.sha256))
  try {
    if ((await file.stat()).size !== blob.size) throw new Failure('integrity', `The blob sha256:${blob.sha256} is damaged.`)
    sendHead(res, wish, head, headers)
    await files.send(res, file.fd, part)
  } finally {
    await file.close()
  }
}

/** The bytes to send; undefined when the answer has no body. */
function begin({ method }: IncomingMessage, wish: Wish, { size }: Facts): Range | undefined {
  if (method === 'HEAD') return undefined
  if (wish.status === 206) return wish.range
  return wish.status === 200 ? { start: 0, end: size! - 1 } : undefined
}

/** Writes the head, and ends the answer when no body follows. */
function sendHead(res: ServerResponse, wish: Wish, { size }: Facts, headers: string[]): void {
  const { status } = wish
  if (status === 200) headers.push('Accept-Ranges', 'bytes', ...(size === undefined ? [] : ['Content-Length', String(size)]))
  if (status === 206) {
    const { start, end } = wish.range
    headers.push(
      'Accept-Ranges',
      'bytes',
      'Content-Length',
      String(end - start + 1),
      'Content-Range',
      `bytes ${start}-${end}/${size}`,
    )
  }
  if (status === 416) headers.push('Content-Range', `bytes */${size}`)
  if (status === 416 || status === 412) headers.push('Content-Length', '0')
  res.writeHead(status, headers)
  if (res.req.method === 'HEAD' || (status !== 200 && status !== 206)) res.end()
}

/** Sends a file whose bytes are upstream: small ones and parts of any when the whole is here and right, others while they come. */
export async function sendRemote(
  onDemand: OnDemand,
  req: IncomingMessage,
  res: ServerResponse,
  remote: Remote,
  again = false,
): Promise<void> {
  const told = factsOf(remote)
  const wish = decideWish(req.headers, told)
  if (req.method === 'HEAD' || !(wish.status === 200 || wish.status === 206))
    return sendHead(res, wish, told, headersOf(remote, told))
  const arrival = again ? await onDemand.openAgain(remote.fileId) : onDemand.open(remote.fileId)
  const close = () => arrival.close()
  // A reader may also go while nothing is written yet.
  res.on('close', close)
  if (res.destroyed) close()
  try {
    if (req.headers.range === undefined) await sendArriving(res, remote, arrival)
    else await sendArrived(req, res, remote, arrival)
  } finally {
    close()
  }
}

async function sendArriving(res: ServerResponse, remote: Remote, arrival: Arrival): Promise<void> {
  const { size } = await arrival.begun()
  const facts = { ...factsOf(remote), size }
  sendHead(res, { status: 200 }, facts, headersOf(remote, facts))
  await sendChunks(res, arrival.read())
}

async function sendArrived(req: IncomingMessage, res: ServerResponse, remote: Remote, arrival: Arrival): Promise<void> {
  const { size, sha256 } = await arrival.complete()
  const facts = { etag: `"${sha256}"`, lastModified: undefined, size }
  const wish = decideWish(req.headers, facts)
  const part = begin(req, wish, facts)
  sendHead(res, wish, facts, headersOf(remote, facts))
  if (part) await sendChunks(res, arrival.read(part))
}

/** What is known of a file before it is here. */
function factsOf({ checksum, size }: Remote): Facts {
  const etag = checksum?.startsWith('sha256:') ? `"${checksum.slice(7)}"` : undefined
  return { etag, lastModified: undefined, size: size ?? undefined }
}

function headersOf(remote: Remote, { etag, size }: Facts): string[] {
  return [
    ...aboutFile(remote),
    ...(etag ? ['ETag', etag] : []),
    ...(size === undefined ? [] : ['X-PULP-ARTIFACT-SIZE', String(size)]),
    'X-PULP-CACHE',
    'MISS',
  ]
}

import type { ServerResponse } from 'node:http'

/** Bytes per second that a reader must take at least, on average over one chunk, after a while of grace. */
const slowest = 1024
const grace = 30_000

/** Milliseconds that a reader has for so many bytes before it is cut off. */
export function patience(length: number): number {
  return grace + (length / slowest) * 1000
}

/** Sends a body of any length in a constant amount of memory; a reader that hardly reads is cut off. Throws what `chunks` throws. */
export async function sendChunks(res: ServerResponse, chunks: AsyncIterable<Uint8Array> | Iterable<string>): Promise<void> {
  for await (const chunk of chunks) {
    if (res.destroyed) return
    if (!res.write(chunk)) await drained(res, chunk.length)
  }
  res.end()
}

function drained(res: ServerResponse, length: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => res.destroy(), patience(length))
    const done = () => {
      clearTimeout(timer)
      res.off('drain', done)
      res.off('close', done)
      resolve()
    }
    res.on('drain', done)
    res.on('close', done)
    if (res.destroyed) done()
  })
}

/** A short answer, such as `404: Not Found`. */
export function sendText(res: ServerResponse, status: number, text: string, headers: readonly string[] = []): void {
  const body = Buffer.from(text)
  const length = String(body.length)
  res.writeHead(status, [
    'Content-Type',
    'text/plain; charset=utf-8',
    'Content-Length',
    length,
    'X-Content-Type-Options',
    'nosniff',
    ...headers,
  ])
  res.end(res.req.method === 'HEAD' ? undefined : body)
}

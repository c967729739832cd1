import type { IncomingMessage, Server, ServerOptions } from 'node:http'

/*
 * What a peer may make the server wait for. Headers have 15 seconds. A body may take as long as it needs (uploads over slow lines), as
 * long as it keeps coming; so may an answer that is read slowly. Idle connections are closed.
 */
export const serverLimits = {
  headersTimeout: 15_000,
  requestTimeout: 0,
  connectionsCheckingInterval: 5_000,
  keepAliveTimeout: 75_000,
  maxHeaderSize: 16 * 1024,
} as const satisfies ServerOptions

/** Without a byte in either direction for so long, a connection is closed. */
const silence = 300_000
const leastPerSecond = 1024

/** Closes connections that are silent, or whose request bodies come slower than 1 KiB/s. Returns what ends the watch. */
export function watchSpeed(server: Server, lookInterval = 10_000): () => void {
  server.setTimeout(silence)
  const receiving = new Map<IncomingMessage, number>()
  server.on('request', (request: IncomingMessage) => {
    if (request.headers['content-length'] === undefined && request.headers['transfer-encoding'] === undefined) return
    receiving.set(request, Number.NaN)
    request.once('close', () => receiving.delete(request))
    request.once('end', () => receiving.delete(request))
  })
  const timer = setInterval(() => {
    for (const [request, before] of receiving) {
      const { bytesRead } = request.socket
      // What waits here to be read (the disk is slow) is not the peer's fault.
      if (bytesRead - before < (leastPerSecond * lookInterval) / 1000 && request.readableLength < request.readableHighWaterMark)
        request.socket.destroy()
      else receiving.set(request, bytesRead)
    }
  }, lookInterval)
  timer.unref()
  return () => clearInterval(timer)
}

/** Why a request is not to be looked at at all; undefined when it is. Absolute-form targets become paths. */
export function refuse(request: IncomingMessage): 400 | 501 | undefined {
  const encoding = request.headers['transfer-encoding']
  // Node passes other codings on as if the body were plain: a proxy before us would see another request than we do.
  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked') return 501
  const target = request.url ?? ''
  if (target.startsWith('/')) return undefined
  const absolute = /^https?:\/\/[^/?#]*(\/[^#]*)?$/i.exec(target)
  if (!absolute) return 400
  request.url = absolute[1] ?? '/'
  return undefined
}

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { hasCode } from '../lib/failure.ts'

export type Night = 1 | 2

/** The upstream of the demonstration: `/bells/` is the repository of one night over packages of both (demo/make). */
export interface DemoUpstream extends AsyncDisposable {
  readonly port: number
  /** Lets the next night begin: what is fetched from now on is its state. */
  become(night: Night): void
}

const root = fileURLToPath(new URL('../../demo/upstream/', import.meta.url))

/** Serves on loopback, at the wanted port or, when that is taken, at another. */
export async function openDemoUpstream(wanted: number, firstNight: Night): Promise<DemoUpstream> {
  let night = firstNight
  const server = createServer(async (request, response) => {
    const file = fileOf(request.url ?? '/', night)
    const size = file === undefined ? undefined : await sizeOf(file)
    if (file === undefined || size === undefined) {
      response.writeHead(404).end()
      return
    }
    response.writeHead(200, { 'content-length': size, 'content-type': 'application/octet-stream' })
    if (request.method === 'HEAD') response.end()
    else await pipeline(createReadStream(file), response).catch(() => response.destroy())
  })
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', resolve)
    })
  await listen(wanted).catch((error: unknown) => {
    if (!hasCode(error, 'EADDRINUSE', 'EACCES')) throw error
    return listen(0)
  })
  return {
    port: (server.address() as AddressInfo).port,
    become: (next) => {
      night = next
    },
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Only names that demo/make gives: nothing else on the disk can be asked for. */
function fileOf(url: string, night: Night): string | undefined {
  const match = /^\/bells\/(packages|repodata)\/([\w.+-]+)$/.exec(url)
  if (!match || match[2]!.startsWith('.')) return undefined
  return match[1] === 'packages' ? join(root, 'packages', match[2]!) : join(root, `night-${night}`, 'repodata', match[2]!)
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

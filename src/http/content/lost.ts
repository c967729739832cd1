import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Ctx } from '../../core/ctx.ts'
import type { OnDemand } from '../../core/serving/on-demand.ts'
import { findFileWithSource } from '../../core/serving/served.ts'
import { Failure, hasCode } from '../../lib/failure.ts'
import { type Blob, type Head, sendBlob, sendRemote, type Stock } from './files.ts'

interface Desk {
  ctx: Pick<Ctx, 'db' | 'log'>
  onDemand: OnDemand
  stock: Stock
}

/** Sends a stored file. One whose bytes are lost is sent as if it were on demand where a source is known, which stores it again. */
export async function sendStored(
  desk: Desk,
  req: IncomingMessage,
  res: ServerResponse,
  { blob, head }: { blob: Blob; head: Head },
  hit: boolean,
): Promise<void> {
  try {
    await sendBlob(desk.stock, req, res, blob, head, hit)
  } catch (error) {
    if (res.headersSent || !isLost(error)) throw error
    await sendLost(desk, req, res, blob, error)
  }
}

async function sendLost({ ctx, onDemand }: Desk, req: IncomingMessage, res: ServerResponse, blob: Blob, cause: unknown) {
  const { path, sha256, size, headers } = blob
  const fileId = await findFileWithSource(ctx.db, sha256)
  if (fileId === undefined)
    throw new Error(`the stored bytes of ${path} (sha256:${sha256}) are lost, and there is no source of them`, { cause })
  ctx.log.error({ path, sha256 }, 'stored bytes are lost: they are fetched again')
  await sendRemote(onDemand, req, res, { kind: 'remote', path, fileId, size, checksum: `sha256:${sha256}`, headers }, true)
}

/** Whether this is because stored bytes are gone or are others. */
function isLost(error: unknown): boolean {
  if (error instanceof Failure) return error.code === 'not_found' || error.code === 'integrity'
  return hasCode(error, 'ENOENT')
}

import type { Dispatcher } from 'undici'

export type Response = Pick<Dispatcher.ResponseData, 'statusCode' | 'headers' | 'body'>

/** Throws away a body that nobody wants, so that the connection can be used again. */
export async function drain({ body }: Response): Promise<void> {
  body.on('error', () => {})
  await body.dump({ limit: 1 << 17, signal: AbortSignal.timeout(5000) }).catch(() => body.destroy())
}

import type { Expected, Staged } from '../store/blobs.ts'

/** How to reach an upstream: what a remote declares, with its secrets. */
export interface Access {
  url: string
  username?: string | undefined
  password?: string | undefined
  /** PEM texts. */
  caCert?: string | undefined
  clientCert?: string | undefined
  clientKey?: string | undefined
  tlsValidation?: boolean | undefined
  proxyUrl?: string | undefined
  proxyUsername?: string | undefined
  proxyPassword?: string | undefined
  /** Extra request headers. */
  headers?: readonly Record<string, string>[] | undefined
  /** Simultaneous downloads; 10 when absent. */
  concurrency?: number | undefined
  /** Retries of one file on one mirror after the first try; 3 when absent. */
  retries?: number | undefined
  /** Requests per second over all downloads of this access; unlimited when absent. */
  rateLimit?: number | undefined
  /** Seconds. */
  totalTimeout?: number | undefined
  connectTimeout?: number | undefined
  readTimeout?: number | undefined
}

/** One upstream, opened for the length of a task or longer: connections are pooled, limits hold over all its requests. */
export interface Upstream extends AsyncDisposable {
  readonly access: Access
  /**
   * Downloads a file and verifies it; retries with backoff (429 and 503 honour Retry-After), then tries the next of `urls`.
   * `urls` are mirrors of the same file, absolute. Throws Failure upstream when none has it (`notFound` true when all answered 404 or 410),
   * integrity when what they have is wrong.
   */
  download(urls: readonly URL[], expected?: Expected, signal?: AbortSignal): Promise<Staged>
  /** Like download, for small files: the whole body in memory. `expected.limit` defaults to 64 MiB. */
  read(urls: readonly URL[], expected?: Expected, signal?: AbortSignal): Promise<{ bytes: Buffer; url: URL }>
  /** Opens one body without retrying once it has begun, for bytes passed on while they arrive. */
  open(urls: readonly URL[], signal?: AbortSignal): Promise<{ body: AsyncIterable<Uint8Array>; size: number | undefined }>
}

/** Opens upstreams. */
export interface Fetcher {
  open(access: Access): Upstream
}

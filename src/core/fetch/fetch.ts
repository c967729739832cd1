import type { Logger } from 'pino'
import { Failure } from '../../lib/failure.ts'
import type { BlobStore, Expected, Staged } from '../../store/blobs.ts'
import { openVerifier } from '../../store/verify.ts'
import { type AddressRule, parseAddressRule, usualAddresses } from './addresses.ts'
import { openMirrors, type Tries } from './mirrors.ts'
import type { Access } from './remotes.ts'
import { type Method, openRequester } from './request.ts'
import type { Response } from './response.ts'
import { expectOk, receive, sizeOf, steady, type Transfer } from './transfer.ts'
import { failureOf, Trouble, troubleOf } from './trouble.ts'
import { openThrottle } from './throttle.ts'

export { showUrl, UpstreamFailure } from './trouble.ts'

/** One upstream, opened for the length of a task or longer: connections are pooled, limits hold over all its requests. */
export interface Upstream extends AsyncDisposable {
  readonly access: Access
  /**
   * Downloads a file and verifies it; retries with backoff (429 and 503 honour Retry-After), then tries the next of `urls`.
   * `urls` are mirrors of the same file, absolute. Throws Failure upstream when none has it (UpstreamFailure, `notFound` when all answered 404 or 410),
   * integrity when what they have is wrong.
   */
  download(urls: readonly URL[], expected?: Expected, signal?: AbortSignal): Promise<Staged>
  /**
   * Like download, for small files: the whole body in memory. `expected.limit` defaults to 64 MiB. Gives which of `urls` answered,
   * against which relative hrefs in the body count, whatever it redirected to.
   */
  read(urls: readonly URL[], expected?: Expected, signal?: AbortSignal): Promise<{ bytes: Buffer; url: URL }>
  /** Like read, for one place whose answer's headers count, too: `method` and request headers are the caller's. */
  ask(url: URL, question: Question, signal?: AbortSignal): Promise<{ bytes: Buffer; headers: Response['headers'] }>
  /** Opens one body without retrying once it has begun, for bytes passed on while they arrive. `others` are those of `urls` that were not asked. */
  open(
    urls: readonly URL[],
    signal?: AbortSignal,
  ): Promise<{ body: AsyncIterable<Uint8Array>; size: number | undefined; others: readonly URL[] }>
}

export interface Question {
  method?: Method
  headers?: Record<string, string>
  expected?: Expected
}

/** Opens upstreams. Throws Failure invalid when an access makes no sense (its URL, certificates, proxy). */
export interface Fetcher {
  open(access: Access): Upstream
}

export interface FetcherOptions {
  /** Where downloads are staged. */
  blobs: Pick<BlobStore, 'stage'>
  log?: Pick<Logger, 'debug'> | undefined
  userAgent?: string | undefined
  /** Where upstreams may be: public and private addresses by default. */
  addresses?: AddressRule | undefined
  /** Origins that give tokens for upstreams elsewhere and may be sent their credentials: see fetch-bearer.ts. */
  tokenRealms?: readonly string[] | undefined
  /** Milliseconds: the first pause before a retry (it doubles), and how long a body may come slower than 1 KiB/s. Tests shorten them. */
  patience?: { pause: number; slow: number } | undefined
}

const readLimit = 64 << 20
const defaultPatience = { pause: 500, slow: 30_000 }

export function openFetcher(options: FetcherOptions): Fetcher {
  return { open: (access) => openUpstream(access, options) }
}

function openUpstream(access: Access, options: FetcherOptions): Upstream {
  if (!/^https?:$/.test(URL.parse(access.url)?.protocol ?? ''))
    throw new Failure('invalid', 'The URL of an upstream must begin with http:// or https://.', { field: 'url' })
  const { pause, slow } = options.patience ?? defaultPatience
  const throttle = openThrottle(access.concurrency ?? 10, access.rateLimit)
  const requester = openRequester(
    access,
    options.userAgent ?? 'Signalbox',
    throttle,
    options.addresses ?? parseAddressRule(usualAddresses),
    options.tokenRealms,
  )
  const mirrors = openMirrors(access.retries ?? 3, pause, options.log)

  /** Takes one file from the first mirror that has it, into `take`. */
  function fetchFile<T>(
    urls: readonly URL[],
    expected: Expected,
    signal: AbortSignal | undefined,
    take: Take<T>,
    question: Pick<Transfer, 'method' | 'headers' | 'answered'> = {},
  ): Promise<T> {
    return mirrors.use(urls, signal, (url, tries) => throttle.run(() => takeOnce(url, tries), signal))

    async function takeOnce(url: URL, tries: Tries): Promise<T> {
      const transfer: Transfer = {
        url,
        requester,
        tries,
        signal,
        slow,
        timeout: access.totalTimeout,
        received: 0,
        validator: undefined,
        resumed: false,
        ...question,
      }
      try {
        return await take(receive(transfer), url)
      } catch (error) {
        throw isWrong(error) ? wrongBytes(error, transfer, expected) : error
      }
    }
  }

  async function read(urls: readonly URL[], expected: Expected = {}, signal?: AbortSignal) {
    const limited = { ...expected, limit: expected.limit ?? expected.size ?? readLimit }
    return fetchFile(urls, limited, signal, async (bytes, url) => ({ bytes: await collect(bytes, limited), url }))
  }

  async function ask(url: URL, { method, headers, expected = {} }: Question, signal?: AbortSignal) {
    const limited = { ...expected, limit: expected.limit ?? expected.size ?? readLimit }
    let told: Response['headers'] = {}
    const answered = (response: Response) => void (told = response.headers)
    const bytes = await fetchFile([url], limited, signal, (body) => collect(body, limited), { method, headers, answered })
    return { bytes, headers: told }
  }

  function open(urls: readonly URL[], signal?: AbortSignal) {
    // Only beginning it takes a place: how long it lasts is up to those who read it.
    return mirrors.use(urls, signal, async (url, _, others) => {
      const response = await throttle.run(() => requester.get(url, {}, signal), signal)
      await expectOk(response)
      return { body: translated(steady(response, slow), url, signal), size: sizeOf(response), others }
    })
  }

  return {
    access,
    download: (urls, expected = {}, signal) => fetchFile(urls, expected, signal, (bytes) => options.blobs.stage(bytes, expected)),
    read,
    ask,
    open,
    [Symbol.asyncDispose]: requester.close,
  }
}

type Take<T> = (bytes: AsyncIterable<Uint8Array>, url: URL) => Promise<T>

async function* translated(
  bytes: AsyncIterable<Uint8Array>,
  url: URL,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* bytes
  } catch (error) {
    signal?.throwIfAborted()
    throw failureOf([{ url, trouble: troubleOf(error), tries: 1 }])
  }
}

async function collect(bytes: AsyncIterable<Uint8Array>, expected: Expected): Promise<Buffer> {
  const verifier = openVerifier(expected)
  const chunks: Uint8Array[] = []
  for await (const chunk of bytes) {
    verifier.update(chunk)
    chunks.push(chunk)
  }
  verifier.finish()
  return Buffer.concat(chunks)
}

function isWrong(error: unknown): error is Failure {
  return error instanceof Failure && error.code === 'integrity'
}

/** Wrong bytes stay wrong, unless the connection may have closed too early or the parts be of different files. */
function wrongBytes(failure: Failure, { received, resumed }: Transfer, { size }: Expected): Trouble {
  const passing = resumed || (size !== undefined && received < size)
  const reason = failure.message.replace(/\.$/, '').replace(/^./, (letter) => letter.toLowerCase())
  return new Trouble(`gave wrong bytes: ${reason}`, { kind: 'wrong', passing, cause: failure })
}

import type { Tries } from './mirrors.ts'
import type { Method, Requester } from './request.ts'
import { drain, type Response } from './response.ts'
import { Trouble, troubleOf, troubleOfStatus } from './trouble.ts'

const slowestRate = 1024
const progress = 1 << 20

/** One file on its way from one mirror. */
export interface Transfer {
  readonly url: URL
  readonly requester: Requester
  readonly tries: Tries
  readonly signal: AbortSignal | undefined
  readonly slow: number
  readonly timeout: number | undefined
  /** What is asked; a GET by default. */
  readonly method?: Method | undefined
  readonly headers?: Record<string, string> | undefined
  /** Called with the first answer that is one. */
  readonly answered?: ((response: Response) => void) | undefined
  received: number
  /** How the mirror recognises the file. */
  validator: string | undefined
  /** Whether its bytes come from more than one answer. */
  resumed: boolean
}

/** The bytes of a file. When they stop in the middle and the mirror says how to recognise the file, the rest is asked for. */
export async function* receive(transfer: Transfer): AsyncGenerator<Uint8Array> {
  const { signal, slow, timeout } = transfer
  for (;;) {
    const begin = transfer.received
    const deadline = timeout ? AbortSignal.timeout(1000 * timeout) : undefined
    try {
      for await (const chunk of steady(await ask(transfer, either(signal, deadline)), slow)) {
        transfer.received += chunk.length
        yield chunk
      }
      return
    } catch (error) {
      signal?.throwIfAborted()
      const trouble = deadline?.aborted ? new Trouble(`took longer than ${timeout} s`, { passing: true }) : troubleOf(error)
      if (!(await mayGoOn(transfer, trouble, transfer.received - begin))) throw trouble
      transfer.resumed = true
    }
  }
}

/** Asks for the file, or for the rest of it. */
async function ask(transfer: Transfer, signal: AbortSignal | undefined): Promise<Response> {
  const { requester, url, received, validator, method, headers, answered } = transfer
  if (received === 0 || !validator) {
    const response = await requester.get(url, { ...headers }, signal, method)
    await expectOk(response)
    transfer.validator = validatorOf(response)
    answered?.(response)
    return response
  }
  const response = await requester.get(url, { ...headers, range: `bytes=${received}-`, 'if-range': validator }, signal)
  if (await continuesAt(response, received)) return response
  transfer.validator = undefined
  throw new Trouble('closed the connection too early', { passing: true })
}

/** Whether to ask for the rest; if not, the caller may begin again. */
async function mayGoOn({ received, validator, tries, signal }: Transfer, trouble: Trouble, gained: number): Promise<boolean> {
  if (received === 0 || !validator) return false
  // On a bad line a large file comes in many parts: it is given up when there is no progress.
  if (gained >= progress) tries.count = 1
  return tries.again(trouble, signal)
}

function either(...signals: (AbortSignal | undefined)[]): AbortSignal | undefined {
  const given = signals.filter((signal) => signal !== undefined)
  return given.length > 1 ? AbortSignal.any(given) : given[0]
}

/** Throws Trouble unless the answer is the whole file. */
export async function expectOk(response: Response) {
  if (response.statusCode === 200) return
  await drain(response)
  throw troubleOfStatus(response.statusCode, response.headers['retry-after'])
}

/** Whether an answer is the rest of the file. When it is another file by now, or the mirror gives no parts, one begins again. */
async function continuesAt(response: Response, begin: number): Promise<boolean> {
  const { statusCode, headers } = response
  if (statusCode === 206 && Number(/^bytes (\d+)-/.exec(String(headers['content-range']))?.[1]) === begin) return true
  if (![200, 206, 416].includes(statusCode)) await expectOk(response)
  await drain(response)
  return false
}

/** What If-Range takes: something that changes with every byte of the file (RFC 9110, 13.1.5). */
function validatorOf({ headers }: Response): string | undefined {
  const { etag, date } = headers
  const modified = headers['last-modified']
  if (typeof etag === 'string') return etag.startsWith('"') ? etag : undefined
  // A file that was written in the second it was sent may have been written again in the same.
  return Date.parse(String(date)) - Date.parse(String(modified)) >= 1000 ? String(modified) : undefined
}

export function sizeOf({ headers }: Response): number | undefined {
  return headers['content-length'] === undefined ? undefined : Number(headers['content-length'])
}

/** The chunks of a body, as long as they keep coming. Time in which nobody asked for more does not count. */
export async function* steady({ body }: Response, slow: number): AsyncGenerator<Uint8Array> {
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]()
  let waited = 0
  let size = 0
  try {
    for (;;) {
      const begin = performance.now()
      const { done, value } = await chunks.next()
      waited += performance.now() - begin
      if (done) return
      size += value.length
      if (waited >= slow) {
        if (size < (slowestRate * waited) / 1000)
          throw new Trouble(`sent less than ${slowestRate} bytes a second`, { passing: true })
        waited = 0
        size = 0
      }
      yield value
    }
  } finally {
    await chunks.return?.()
  }
}

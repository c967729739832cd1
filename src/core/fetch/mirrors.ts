import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { Failure } from '../../lib/failure.ts'
import { failureOf, type Problem, showUrl, Trouble } from './trouble.ts'

const longestPause = 30_000
// For so long a mirror that failed is tried after the others.
const avoidance = 60_000

/** How often one mirror was tried for one file. */
export interface Tries {
  count: number
  /** Whether another try makes sense; if so, after a pause. */
  again(trouble: Trouble, signal: AbortSignal | undefined): Promise<boolean>
}

/** Tries a thing at one mirror after the other, and more than once where that may help. `pause` is that before the first retry. */
export function openMirrors(retries: number, pause: number, log?: Pick<Logger, 'debug'>) {
  const avoided = new Map<string, number>()
  const isAvoided = (url: URL) => (avoided.get(url.origin) ?? 0) > performance.now()

  function openTries(url: URL): Tries {
    async function again(trouble: Trouble, signal: AbortSignal | undefined) {
      if (!trouble.passing || tries.count > retries) return false
      log?.debug({ url: showUrl(url), reason: trouble.message, tries: tries.count }, 'a download is tried again')
      // Jitter, so that many downloads do not come back all at once.
      const wait = Math.min(longestPause, pause * 2 ** (tries.count - 1)) * (0.5 + Math.random())
      tries.count++
      await sleep(Math.max(wait, trouble.wait), undefined, { signal }).catch(() => signal?.throwIfAborted())
      return true
    }
    const tries: Tries = { count: 1, again }
    return tries
  }

  async function use<T>(
    urls: readonly URL[],
    signal: AbortSignal | undefined,
    work: (url: URL, tries: Tries, others: readonly URL[]) => Promise<T>,
  ): Promise<T> {
    if (urls.length === 0) throw new Failure('upstream', 'There is no mirror to download from.')
    const problems: Problem[] = []
    const order = urls.toSorted((a, b) => Number(isAvoided(a)) - Number(isAvoided(b)))
    for (const [index, url] of order.entries()) {
      const tries = openTries(url)
      let trouble: Trouble
      do {
        try {
          return await work(url, tries, order.slice(index + 1))
        } catch (error) {
          signal?.throwIfAborted()
          // Anything else is not the upstream's doing (a full disk), so another try would not help.
          if (!(error instanceof Trouble)) throw error
          trouble = error
        }
      } while (await tries.again(trouble, signal))
      problems.push({ url, trouble, tries: tries.count })
      if (trouble.passing) avoided.set(url.origin, performance.now() + avoidance)
    }
    throw failureOf(problems)
  }
  return { use }
}

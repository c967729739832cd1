import { setTimeout as sleep } from 'node:timers/promises'

/** Holds back work: so many at a time, and so many requests a second. */
export interface Throttle {
  /** Runs `work` as soon as there is a place for it. */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
  /** Waits until the next request may be sent. */
  pace(signal?: AbortSignal): Promise<void>
}

export function openThrottle(concurrency: number, rate: number | undefined): Throttle {
  const waiting: (() => void)[] = []
  let places = concurrency
  let next = 0

  async function enter(signal?: AbortSignal) {
    signal?.throwIfAborted()
    if (places > 0) {
      places--
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    function go() {
      signal?.removeEventListener('abort', leave)
      resolve()
    }
    function leave() {
      waiting.splice(waiting.indexOf(go), 1)
      reject(signal?.reason)
    }
    waiting.push(go)
    signal?.addEventListener('abort', leave, { once: true })
    await promise
  }

  async function run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await enter(signal)
    try {
      return await work()
    } finally {
      // A place that becomes free goes straight to who waited longest.
      const go = waiting.shift()
      if (go) go()
      else places++
    }
  }

  async function pace(signal?: AbortSignal) {
    if (!rate) return
    const time = performance.now()
    const turn = Math.max(time, next)
    next = turn + 1000 / rate
    if (turn > time) await sleep(turn - time, undefined, { signal })
  }
  return { run, pace }
}

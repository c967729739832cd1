import { executionAsyncResource } from 'node:async_hooks'

/**
 * Keeps process.nextTick quick, on which every stream and answer depends. V8 forgets the shape of the objects that stand for ticks when it
 * collects garbage while none of them exists, and from then on each tick of the thread costs five times as much (V8 of Node 20 to 26). Hold this from the
 * beginning: it is one such object.
 */
export function holdTick(): Promise<Disposable> {
  return new Promise((resolve) =>
    process.nextTick(() => {
      const held = { tick: executionAsyncResource(), [Symbol.dispose]() {} }
      resolve(held)
    }),
  )
}

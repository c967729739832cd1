/** Does `act` for each item, at most `limit` at a time, starting in order. The first failure stops further starts and is thrown once all have ended. */
export async function forEach<T>(
  items: Iterable<T> | AsyncIterable<T>,
  limit: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>()
  let failed: { error: unknown } | undefined
  for await (const item of items) {
    if (failed) break
    const run = act(item)
      .catch((error: unknown) => {
        failed ??= { error }
      })
      .finally(() => running.delete(run))
    running.add(run)
    if (running.size >= limit) await Promise.race(running)
  }
  await Promise.all(running)
  if (failed) throw failed.error
}

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachDatabase } from '../databases.ts'
import { soak } from '../soak.ts'

/* For a few seconds what `npm run bench -- soak` does for long. */

forEachDatabase((engine, _, make) => {
  test(`${engine}: pushes, mounts and deletions go on while orphans are collected again and again, and nothing breaks`, {
    timeout: 150_000,
  }, async (t) => {
    const database = await make(t)
    const enough = { events: 500, cycles: 30, content: 20, time: 75_000 }
    const soaked = await soak(t, { database, clients: 6, collectors: 4, ...enough })
    t.diagnostic(JSON.stringify(soaked))
    assert.deepEqual(soaked.broken, [])
    // A machine that does almost nothing in the time has proven nothing.
    assert.ok(soaked.cycles >= enough.cycles && soaked.content >= enough.content, JSON.stringify(soaked))
  })

  test(`${engine}: with a collector that knows of no leases the same breaks pushes`, { timeout: 150_000 }, async (t) => {
    const database = await make(t)
    const soaked = await soak(t, {
      database,
      clients: 6,
      collectors: 4,
      events: 1_000_000,
      cycles: 0,
      content: 0,
      time: 75_000,
      isBlind: true,
    })
    assert.match(soaked.broken.join('\n'), /PUT of a manifest .*MANIFEST_BLOB_UNKNOWN/)
  })
})

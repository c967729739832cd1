import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Soaked, soak } from '../tests/soak.ts'

/** Pushes against garbage collection, by default at least 100,000 requests and 10,000 collections. */
export async function bench(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      events: { type: 'string', default: '100000' },
      cycles: { type: 'string', default: '10000' },
      minutes: { type: 'string', default: '60' },
      clients: { type: 'string', default: '8' },
      collectors: { type: 'string', default: '8' },
      database: { type: 'string' },
      blind: { type: 'boolean', default: false },
    },
  })
  const directory = await mkdtemp(join(tmpdir(), 'signalbox-soak-'))
  const ends: (() => Promise<void> | void)[] = [() => rm(directory, { recursive: true, force: true })]
  let told = 0
  const show = ({ broken, seconds, ...counts }: Soaked) => {
    console.log(`${Math.round(seconds)} s  ${JSON.stringify(counts)}  broken: ${broken.length}`)
    for (; told < broken.length; told++) console.log(broken[told])
  }
  try {
    const soaked = await soak(
      { after: (clean) => void ends.push(clean as () => Promise<void>) },
      {
        database: values.database ?? join(directory, 'signalbox.db'),
        clients: Number(values.clients),
        events: Number(values.events),
        cycles: Number(values.cycles),
        content: 0,
        time: Number(values.minutes) * 60_000,
        collectors: Number(values.collectors),
        isBlind: values.blind,
        tell: show,
      },
    )
    show(soaked)
    const { user, system } = process.cpuUsage()
    console.log(`${((user + system) / 1e6).toFixed(0)} s of CPU`)
    process.exitCode = soaked.broken.length > 0 ? 1 : 0
  } finally {
    for (const end of ends.toReversed()) await end()
  }
}

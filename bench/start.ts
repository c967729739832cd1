import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { memory, report, reportMachine, seconds, startServer, temporary } from './measure.ts'

/** Time until the server answers, on an empty directory and again on a used one; idle memory; the API document. */
export async function bench(): Promise<void> {
  reportMachine()
  await using work = await temporary()
  const first: number[] = []
  const again: number[] = []
  const idle: number[] = []
  const document: number[] = []
  for (let run = 0; run < 5; run++) {
    const data = join(work.path, String(run))
    {
      await using server = await startServer(data)
      first.push(server.readyAfter)
    }
    await using server = await startServer(data)
    again.push(server.readyAfter)
    const ask = () => fetch(`${server.url}/pulp/api/v3/docs/api.json`).then((response) => response.arrayBuffer())
    await ask()
    document.push((await seconds(ask)) * 1000)
    await sleep(3000)
    idle.push((await memory(server.pid)).now)
  }
  report('ready, empty directory', first, 's')
  report('ready, used directory', again, 's')
  report('idle memory', idle, 'MB')
  report('docs/api.json', document, 'ms')
}

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseDocument } from 'yaml'
import { hasCode } from '../lib/failure.ts'

const template = fileURLToPath(new URL('../../demo/train.yaml', import.meta.url))
const usualPort = 8088

/** Where the demonstration's own train.yaml lies. */
function configIn(data: string): string {
  return join(data, 'demo', 'train.yaml')
}

/** The port that the train expects its upstream at: the same at every start, so that nothing has to change. */
export async function upstreamPort(data: string): Promise<number> {
  const url = String(parseDocument(await readConfig(data)).getIn(['repositories', 'bells', 'rpm']))
  return URL.canParse(url) ? Number(new URL(url).port) || usualPort : usualPort
}

/** Writes the demonstration's train.yaml, or changes only the ports in it. Returns its path. */
export async function prepareTrain(data: string, server: string, port: number): Promise<string> {
  const path = configIn(data)
  const document = parseDocument(await readConfig(data))
  document.set('server', server)
  document.setIn(['repositories', 'bells', 'rpm'], `http://127.0.0.1:${port}/bells/`)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, document.toString({ lineWidth: 0 }))
  return path
}

async function readConfig(data: string): Promise<string> {
  try {
    return await readFile(configIn(data), 'utf8')
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    return readFile(template, 'utf8')
  }
}

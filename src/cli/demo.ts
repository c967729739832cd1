import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { type Api, connect } from '../api/client.ts'
import { hasCode } from '../lib/failure.ts'
import { serve } from '../serve.ts'
import { loadTrain } from '../train/load.ts'
import { command, type Io } from './command.ts'
import { prepareTrain, upstreamPort } from './demo-config.ts'
import { applyTrain, type Credentials, ensureUsers, runNights, type Standing } from './demo-nights.ts'
import { openDemoUpstream } from './demo-upstream.ts'
import { readVersion } from './version.ts'
import { parseListen } from './serve.ts'

export const demo = command({
  usage: 'demo [--data DIR] [--listen HOST:PORT]',
  about:
    'Runs a server with a small train: two nights of an upstream made for it, the first one released. A second start finds everything as it was.',
  options: {
    data: { type: 'string', value: 'DIR', default: './var', about: 'Where everything is stored.' },
    listen: { type: 'string', value: 'HOST:PORT', default: '127.0.0.1:8080', about: 'Where to listen.' },
  },
  async run({ values: { data, listen } }, io) {
    const server = await serve({
      data,
      ...parseListen(listen),
      adminPassword: io.env['SIGNALBOX_ADMIN_PASSWORD'],
      logLevel: io.env['SIGNALBOX_LOG'] ?? 'error',
    })
    try {
      await using upstream = await openDemoUpstream(await upstreamPort(data), 1)
      const config = await prepareTrain(data, server.url, upstream.port)
      const train = await loadTrain(config)
      const password = await adminPassword(data, io)
      const where = password.file === undefined ? 'is $SIGNALBOX_ADMIN_PASSWORD' : `in ${password.file}`
      io.out.write(`Signalbox ${await readVersion()} · data in ${data} · ${server.url}   (user admin, password ${where})\n\n`)

      const api = connect({ url: server.url, username: 'admin', password: password.value })
      await applyTrain(api, train)
      const credentials = await ensureUsers(api, join(data, 'demo'))
      const standing = await runNights(api, train, upstream, credentials, io)
      io.out.write(invitation(api, standing, credentials, config))
      if (!io.signal.aborted) await once(io.signal, 'abort')
    } catch (error) {
      // Ctrl-C may come at any moment: what was done stays, and the next start does the rest.
      if (!io.signal.aborted) throw error
    } finally {
      await server.close()
    }
    io.out.write('\nStopped. "npm start" continues where this left off.\n')
    return 0
  },
})

/** What the server made up at its first start, unless it was given. */
async function adminPassword(data: string, { env }: Io): Promise<{ value: string; file?: string }> {
  const file = join(data, 'admin-password')
  try {
    return { value: (await readFile(file, 'utf8')).trim(), file }
  } catch (error) {
    const given = env['SIGNALBOX_ADMIN_PASSWORD']
    if (!hasCode(error, 'ENOENT') || !given) throw error
    return { value: given }
  }
}

function invitation({ url }: Api, standing: Standing, { tester, client }: Credentials, config: string): string {
  const { released, unreleased, releasedImage, unreleasedImage } = standing
  const content = `${url}/pulp/content/`
  const withClient = content.replace('://', `://client:${client.shown}@`)
  const once = client.made ? '  (passwords are printed this once, and kept beside the train)' : ''
  const refused =
    unreleased &&
    `
And what is not released, which is refused (403) to a client and open to a tester:
  curl -i -u client:${client.shown} ${content}${unreleased.path}/repodata/repomd.xml
  curl -i -u tester:${tester.shown} ${content}${unreleased.path}/repodata/repomd.xml
`
  const inspect = `skopeo inspect --tls-verify=false --creds`
  const { host } = new URL(url)
  const images =
    releasedImage &&
    `
Images are pulled with the same passwords; testers see both, a client the first:
  ${inspect} client:${client.shown} docker://${host}/${releasedImage}
${unreleasedImage ? `  ${inspect} tester:${tester.shown} docker://${host}/${unreleasedImage}\n` : ''}  podman pull --tls-verify=false --creds client:${client.shown} ${host}/${releasedImage} && podman run --rm ${host}/${releasedImage}
`
  return `
Try it, as a client, who may see what is released:${once}
  curl -u client:${client.shown} ${content}${released.path}/packages/
  sudo dnf -y --installroot /tmp/demo --releasever 9 --repofrompath=bells,${withClient}${released.path}/ --repo bells --nogpgcheck install bell
${refused ?? ''}${images ?? ''}
Next, in another terminal:
  bin/signalbox status ${optionsFor(config)}
  bin/signalbox diff ${optionsFor(config)}
and the rest of README.md#five-minutes.
Ctrl-C stops; npm start continues where this left off.
`
}

/** What other commands need to find the demonstration, relative to here where that is shorter. */
function optionsFor(config: string): string {
  const [file, data] = [config, dirname(dirname(config))].map((path) => {
    const near = relative('.', path)
    return near.startsWith('..') ? path : near
  })
  return `--config ${file}${data === 'var' ? '' : ` --data ${data}`}`
}

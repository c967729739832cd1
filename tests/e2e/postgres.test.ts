import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import pg from 'pg'
import { runFirstTrain } from './first-train.ts'
import { makeKey } from './rpms.ts'
import { cannotInstall, temporaryDirectory } from './run.ts'
import { startServer } from './server.ts'
import { makeNights, serveFiles } from './upstream.ts'

const database = process.env['DATABASE_URL']
const skip = (await cannotInstall()) || (!database && 'DATABASE_URL names no PostgreSQL')

test('from an upstream repository to a client, on PostgreSQL', { skip, timeout: 180_000 }, async (t) => {
  const url = new URL(database!)
  const name = `signalbox_${randomBytes(6).toString('hex')}`
  await administer(`create database ${name}`)
  const directory = await temporaryDirectory(t)
  const key = await makeKey(directory)
  const nights = await makeNights(directory, key)
  const upstream = await serveFiles(t, nights[0]!)
  url.pathname = `/${name}`
  const server = await startServer(t, { env: { SIGNALBOX_DATABASE: url.href } })
  t.after(() => administer(`drop database ${name} with (force)`))
  await runFirstTrain(t, { server, upstream, nights, key })
})

async function administer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  await client.query(statement)
  await client.end()
}

import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { serverLimits, watchSpeed } from './limits.ts'

/** Answers with the size of the body; reads it as `read` says. */
async function open(t: TestContext, read: (request: IncomingMessage) => AsyncIterable<Buffer>) {
  const server = createServer(serverLimits, async (request: IncomingMessage, response: ServerResponse) => {
    let size = 0
    try {
      for await (const chunk of read(request)) size += chunk.length
      response.end(String(size))
    } catch {
      // The peer sees that its connection is closed.
    }
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const end = watchSpeed(server, 200)
  t.after(() => {
    end()
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** Sends a body in pieces and returns what came back. */
async function post(port: number, size: number, pieces: AsyncIterable<string>): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${size}\r\n\r\n`)
  let answer = ''
  socket.on('data', (chunk) => (answer += chunk))
  for await (const piece of pieces) {
    if (socket.destroyed) break
    socket.write(piece)
  }
  if (!socket.destroyed) await new Promise((done) => socket.once('close', done))
  return answer
}

async function* every(ms: number, piece: string, count: number) {
  for (let index = 0; index < count; index++) {
    yield piece
    await sleep(ms)
  }
}

test('a body that trickles in is cut off', async (t) => {
  const port = await open(t, (request) => request)
  const from = performance.now()
  assert.equal(await post(port, 1000, every(50, 'x', 1000)), '')
  assert.ok(performance.now() - from < 5000)
})

test('a body that keeps coming may take its time', async (t) => {
  const port = await open(t, (request) => request)
  assert.match(await post(port, 20_000, every(50, 'x'.repeat(1000), 20)), /\r\n\r\n20000$/)
})

test('a body that the server itself reads slowly is not the fault of who sends it', async (t) => {
  const port = await open(t, async function* (request) {
    await sleep(1500)
    yield* request as AsyncIterable<Buffer>
  })
  assert.match(await post(port, 3_000_000, every(0, 'x'.repeat(3_000_000), 1)), /\r\n\r\n3000000$/)
})

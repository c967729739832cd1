import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { openFetcher } from './fetch.ts'
import { type OwnListener, parseAddressRule, usualAddresses } from './addresses.ts'

const allows = (rule: string, address: string, port?: number, own?: OwnListener): boolean => {
  try {
    parseAddressRule(rule, own).check(address, port)
    return true
  } catch (error) {
    assert.match(String(error), /must not connect to/)
    return false
  }
}

for (const [address, kind] of [
  ['93.184.215.14', 'public'],
  ['2606:2800:21f:cb07::1', 'public'],
  ['64:ff9b::5db8:d70e', 'public'],
  ['127.0.0.1', 'private'],
  ['127.8.9.10', 'private'],
  ['10.1.2.3', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.1.1', 'private'],
  ['100.64.0.1', 'private'],
  ['::1', 'private'],
  ['fd12:3456::1', 'private'],
  ['::ffff:10.1.2.3', 'private'],
  ['::ffff:a01:203', 'private'],
  ['64:ff9b::10.1.2.3', 'private'],
  ['2002:a01:203::1', 'private'],
  ['0.0.0.0', 'never'],
  ['0.1.2.3', 'never'],
  ['::', 'never'],
  ['169.254.169.254', 'never'],
  ['::ffff:169.254.169.254', 'never'],
  ['64:ff9b::a9fe:a9fe', 'never'],
  ['2002:a9fe:a9fe::', 'never'],
  ['::169.254.169.254', 'never'],
  ['fe80::1', 'never'],
  ['fe80::1%eth0', 'never'],
  ['fd00:ec2::254', 'never'],
  ['100.100.100.200', 'never'],
  ['168.63.129.16', 'never'],
  ['224.0.0.1', 'never'],
  ['255.255.255.255', 'never'],
  ['ff02::1', 'never'],
] as const)
  test(`${address} is ${kind === 'never' ? 'refused unless it is named' : kind}`, () => {
    assert.deepEqual(
      ['public', 'private', usualAddresses].map((rule) => allows(rule, address)),
      [kind === 'public', kind === 'private', kind !== 'never'],
    )
    assert.ok(allows('public,0.0.0.0/0,::/0', address))
  })

test('a network is allowed beside the public addresses', () => {
  assert.deepEqual(
    ['10.2.3.4', '10.3.0.1', '8.8.8.8', '127.0.0.1'].map((address) => allows('public, 10.2.0.0/16, ::1', address)),
    [true, false, true, false],
  )
})

for (const wrong of ['', 'all', 'public,10.0.0.0/33', 'public,example.org', '10.0.0.0/x', '::/129'])
  test(`"${wrong}" is no setting`, () => {
    assert.throws(() => parseAddressRule(wrong), { code: 'invalid', message: /SIGNALBOX_UPSTREAM_ADDRESSES takes/ })
  })

test('this server is not its own upstream, unless that is named', () => {
  const port = new SharedArrayBuffer(4)
  const own = (host: string): OwnListener => ({ host, port })
  assert.ok(allows(usualAddresses, '127.0.0.1', 8080, own('127.0.0.1')))
  Atomics.store(new Int32Array(port), 0, 8080)
  assert.ok(!allows(usualAddresses, '127.0.0.1', 8080, own('127.0.0.1')))
  assert.ok(!allows(usualAddresses, '::ffff:127.0.0.1', 8080, own('127.0.0.1')))
  assert.ok(allows(usualAddresses, '127.0.0.1', 8081, own('127.0.0.1')))
  assert.ok(allows(usualAddresses, '10.2.3.4', 8080, own('127.0.0.1')))
  for (const host of ['::', '0.0.0.0', 'localhost']) assert.ok(!allows(usualAddresses, '127.0.0.1', 8080, own(host)))
  assert.ok(allows(`${usualAddresses},127.0.0.1`, '127.0.0.1', 8080, own('::')))
})

const refused = (address: string) => ({
  code: 'upstream',
  message: new RegExp(`is at ${address.replaceAll('.', '\\.')}, where this server must not connect to`),
})

test('what is refused is not even connected to: as an address, as a name, and after a redirect', async (t) => {
  const asked: string[] = []
  const port = await listen(t, (request, response) => {
    asked.push(request.url!)
    response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end()
  })
  await assert.rejects(read(t, 'public', `http://127.0.0.1:${port}/`), refused('127.0.0.1'))
  await assert.rejects(read(t, 'public', `http://2130706433:${port}/`), refused('127.0.0.1'))
  await assert.rejects(read(t, 'public', `http://[::ffff:127.0.0.1]:${port}/`), refused('::ffff:7f00:1'))
  await assert.rejects(read(t, 'public', `http://localhost:${port}/`), /is at (127\.0\.0\.1|::1), where/)
  await assert.rejects(read(t, 'public', 'http://93.184.215.14/', `http://127.0.0.1:${port}`), refused('127.0.0.1'))
  await assert.rejects(read(t, 'public', 'http://93.184.215.14/', `http://localhost:${port}`), /is at (127\.0\.0\.1|::1), where/)
  assert.deepEqual(asked, [])
  await assert.rejects(read(t, usualAddresses, `http://127.0.0.1:${port}/`), refused('169.254.169.254'))
  assert.deepEqual(asked, ['/'])
})

test('a name that leads to this server is refused when the connection is made', async (t) => {
  const asked: string[] = []
  const port = await listen(t, (request, response) => {
    asked.push(request.url!)
    response.end('x')
  })
  assert.equal(await read(t, usualAddresses, `http://localhost:${port}/a`), 'x')
  const cell = new SharedArrayBuffer(4)
  Atomics.store(new Int32Array(cell), 0, port)
  const own = { host: '0.0.0.0', port: cell }
  await assert.rejects(read(t, usualAddresses, `http://localhost:${port}/b`, undefined, own), refused('127.0.0.1'))
  await assert.rejects(read(t, usualAddresses, `http://127.0.0.1:${port}/c`, undefined, own), refused('127.0.0.1'))
  assert.deepEqual(asked, ['/a'])
})

async function read(t: TestContext, rule: string, url: string, proxyUrl?: string, own?: OwnListener): Promise<string> {
  const blobs = { stage: () => assert.fail('nothing is stored') }
  const upstream = openFetcher({ blobs, addresses: parseAddressRule(rule, own) }).open({ url, proxyUrl, retries: 0 })
  t.after(() => upstream[Symbol.asyncDispose]())
  return (await upstream.read([new URL(url)])).bytes.toString()
}

async function listen(t: TestContext, listener: RequestListener): Promise<number> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

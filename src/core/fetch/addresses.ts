import { lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { networkInterfaces } from 'node:os'
import { Failure } from '../../lib/failure.ts'
import { Trouble } from './trouble.ts'

/*
 * Whoever may make a remote chooses where this server connects to. What no upstream can be at is refused unless it is named: addresses of a
 * link, which answer with a cloud machine's credentials, multicast, and this server itself, which would wait for its own answer.
 */

/** Where upstreams may be. */
export interface AddressRule {
  /** Throws Trouble when an upstream may not be at this address. A port is told where it is known. */
  check(address: string, port?: number): void
}

/** Where this process serves. The port is known only after it has begun to. */
export interface OwnListener {
  host: string
  /** One 32 bit cell; 0 until it is known. */
  port: SharedArrayBuffer
}

const setting = 'SIGNALBOX_UPSTREAM_ADDRESSES'

const linkLocal = '0.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 fe80::/10 ff00::/8'
/** Where clouds tell a machine its secrets, though the address looks like any other. */
const metadata = '100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::/32 fd20:ce::/32'
const never = blockList(`${linkLocal} ${metadata}`.split(' '))
const loopback = blockList(['127.0.0.0/8', '::1'])
const own4 = '127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10'
const special4 = '192.0.0.0/24 192.0.2.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24'
const privateRanges = blockList(`${own4} ${special4} ::1 fc00::/7 fec0::/10 2001:db8::/32`.split(' '))

export const usualAddresses = 'public,private'

/** Reads `public`, `private` and networks such as 10.2.0.0/16, in any number. A network that is named is allowed whatever it is. */
export function parseAddressRule(text: string, own?: OwnListener): AddressRule {
  const words = text.split(',').map((word) => word.trim())
  const networks = words.filter((word) => word !== 'public' && word !== 'private')
  const named = blockList(networks)

  function isAllowed(address: string, port: number | undefined): boolean {
    if (isIn(named, address)) return true
    if (isIn(never, address) || (port !== undefined && own && isOwn(own, address, port))) return false
    return words.includes(isIn(privateRanges, address) ? 'private' : 'public')
  }
  return {
    check(given, port) {
      const address = plainAddress(given)
      if (isAllowed(address, port)) return
      throw new Trouble(`is at ${given}, where this server must not connect to (see ${setting})`)
    },
  }
}

/** Looks up the addresses of a name, and gives those that are allowed: the connection is made to one of these. */
export function openLookup(rule: AddressRule): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, [])
      let refusal: Error | undefined
      const allowed = found.filter(({ address }) => {
        try {
          rule.check(address)
          return true
        } catch (why) {
          refusal = why as Error
          return false
        }
      })
      const [first] = allowed
      if (!first) callback(refusal ?? new Trouble('has a host name without addresses'), [])
      else if (options.all) callback(null, allowed)
      else callback(null, first.address, first.family)
    })
  }
}

function isOwn({ host, port: cell }: OwnListener, address: string, port: number): boolean {
  if (port !== Atomics.load(new Int32Array(cell), 0)) return false
  if (host === 'localhost') return isIn(loopback, address)
  if (host !== '::' && host !== '0.0.0.0') return address === host
  const local = Object.values(networkInterfaces()).flatMap((each = []) => each.map((one) => one.address))
  return isIn(loopback, address) || local.includes(address)
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', length] = network.split('/')
    const family = isIP(address)
    const bits = length === undefined ? (family === 4 ? 32 : 128) : Number(length)
    if (family === 0 || !/^\d{0,3}$/.test(length ?? '') || bits > (family === 4 ? 32 : 128))
      throw new Failure('invalid', `${setting} takes "public", "private" and networks such as 10.2.0.0/16, not "${network}".`)
    list.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6')
  }
  return list
}

function isIn(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')
}

/** An address as it counts: without its zone, and the IPv4 address that an IPv6 one stands for. */
function plainAddress(given: string): string {
  const address = given.replace(/%.*$/, '')
  if (isIP(address) !== 6) return address
  const parts = groupsOf(address)
  const prefix = parts.slice(0, 6).join(':')
  // Mapped, translated (NAT64) and compatible ones end with it, those of 6to4 have it after 2002.
  if (prefix === '0:0:0:0:0:65535' || prefix === '100:65435:0:0:0:0') return dotted(parts[6]!, parts[7]!)
  if (prefix === '0:0:0:0:0:0' && !(parts[6] === 0 && parts[7] === 1)) return dotted(parts[6]!, parts[7]!)
  return parts[0] === 0x2002 ? dotted(parts[1]!, parts[2]!) : address
}

function groupsOf(address: string): number[] {
  // A URL's host writes the last four bytes as two groups, as the others are.
  const [head = '', tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::')
  const read = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)))
  const [begin, end] = [read(head), read(tail ?? '')]
  return tail === undefined ? begin : [...begin, ...Array.from({ length: 8 - begin.length - end.length }, () => 0), ...end]
}

function dotted(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

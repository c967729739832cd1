import { gzipSync } from 'node:zlib'
import { digestOf, type ImageBytes, type ManifestBytes, ociTypes } from '../api/registry.ts'

/*
 * The image of the demonstration, made here byte by byte: a list of two platforms, each with one layer that holds one program, which
 * prints a line. https://github.com/opencontainers/image-spec/blob/main/layer.md
 */

/** An image that says `line`, made at `created` (ISO 8601). The same arguments make the same bytes. */
export function makeDemoImage(line: string, created: string): ImageBytes {
  const platforms = (['amd64', 'arm64'] as const).map((architecture) => makePlatform(architecture, `${line}\n`, created))
  const index = {
    schemaVersion: 2,
    mediaType: ociTypes.index,
    manifests: platforms.map(({ architecture, manifest }) => ({
      ...describe(ociTypes.manifest, manifest.bytes),
      platform: { architecture, os: 'linux' },
    })),
    annotations: { 'org.opencontainers.image.title': 'bell', 'org.opencontainers.image.created': created },
  }
  return {
    blobs: platforms.flatMap(({ config, layer }) => [config, layer]),
    manifests: [...platforms.map(({ manifest }) => manifest), manifestOf(ociTypes.index, index)],
  }
}

type Architecture = keyof typeof programs

function makePlatform(architecture: Architecture, line: string, created: string) {
  const tar = makeTar('bell', makeProgram(architecture, line))
  const layer = gzipSync(tar)
  const config = toJson({
    created,
    architecture,
    os: 'linux',
    config: { Entrypoint: ['/bell'], Labels: { 'org.opencontainers.image.title': 'bell' } },
    rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
    history: [{ created, created_by: 'signalbox demo' }],
  })
  const manifest = manifestOf(ociTypes.manifest, {
    schemaVersion: 2,
    mediaType: ociTypes.manifest,
    config: describe(ociTypes.config, config),
    layers: [describe(ociTypes.layer, layer)],
  })
  return { architecture, config, layer, manifest }
}

function describe(mediaType: string, bytes: Uint8Array) {
  return { mediaType, digest: digestOf(bytes), size: bytes.length }
}

function manifestOf(mediaType: string, body: object): ManifestBytes {
  return { mediaType, bytes: toJson(body) }
}

function toJson(value: object): Buffer {
  return Buffer.from(JSON.stringify(value))
}

/** An archive of one program: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06 */
function makeTar(name: string, body: Buffer): Buffer {
  const header = Buffer.alloc(512)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  for (const [at, text] of [
    [0, name],
    [100, octal(0o755, 7)],
    [108, octal(0, 7)],
    [116, octal(0, 7)],
    [124, octal(body.length, 11)],
    [136, octal(0, 11)],
    [148, ' '.repeat(8)],
    [156, '0'],
    [257, 'ustar\x0000'],
  ] as const)
    header.write(text, at, 'latin1')
  // The checksum is that of the header with blanks in its place.
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return Buffer.concat([header, body, Buffer.alloc((512 - (body.length % 512)) % 512), Buffer.alloc(1024)])
}

const loadedAt = 0x400000
const headersSize = 64 + 56

/** Machine code that writes a text of `length` bytes, which follows it, and exits. */
const programs = {
  amd64: { machine: 62, code: amd64 },
  arm64: { machine: 183, code: arm64 },
} as const

/** An ELF program of one segment: https://refspecs.linuxfoundation.org/elf/elf.pdf */
function makeProgram(architecture: Architecture, text: string): Buffer {
  const { machine, code } = programs[architecture]
  const message = Buffer.from(text)
  const body = Buffer.concat([code(message.length), message])
  const size = headersSize + body.length
  const header = Buffer.alloc(headersSize)
  header.write('\x7fELF\x02\x01\x01', 'latin1')
  header.writeUInt16LE(2, 16) // an executable
  header.writeUInt16LE(machine, 18)
  header.writeUInt32LE(1, 20)
  header.writeBigUInt64LE(BigInt(loadedAt + headersSize), 24) // where it begins to run
  header.writeBigUInt64LE(64n, 32) // where the segments are listed
  header.writeUInt16LE(64, 52)
  header.writeUInt16LE(56, 54)
  header.writeUInt16LE(1, 56)
  header.writeUInt32LE(1, 64) // to be loaded
  header.writeUInt32LE(5, 68) // to be read and run
  header.writeBigUInt64LE(BigInt(loadedAt), 80)
  header.writeBigUInt64LE(BigInt(loadedAt), 88)
  header.writeBigUInt64LE(BigInt(size), 96)
  header.writeBigUInt64LE(BigInt(size), 104)
  header.writeBigUInt64LE(0x10000n, 112)
  return Buffer.concat([header, body])
}

const amd64Code = [
  'b801000000', // mov eax, 1 (write)
  'bf01000000', // mov edi, 1 (standard output)
  '488d3500000000', // lea rsi, [rip + to the text]
  'ba00000000', // mov edx, length
  '0f05', // syscall
  'b83c000000', // mov eax, 60 (exit)
  '31ff', // xor edi, edi
  '0f05', // syscall
]

function amd64(length: number): Buffer {
  const code = Buffer.from(amd64Code.join(''), 'hex')
  code.writeInt32LE(code.length - 17, 13)
  code.writeUInt32LE(length, 18)
  return code
}

function arm64(length: number): Buffer {
  const move = (register: number, value: number) => 0xd2800000 + value * 32 + register
  const system = 0xd4000001
  const words = [move(0, 1), 0, move(2, length), move(8, 64), system, move(0, 0), move(8, 93), system]
  // adr x1, text: an offset in bytes, its two lowest bits apart from the rest.
  words[1] = 0x10000001 + ((words.length * 4 - 4) >> 2) * 32
  const code = Buffer.alloc(words.length * 4)
  for (const [index, word] of words.entries()) code.writeUInt32LE(word >>> 0, index * 4)
  return code
}

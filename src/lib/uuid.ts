import { randomBytes } from 'node:crypto'

/** A version 7 UUID (RFC 9562): time-ordered, so that new rows go to the end of an index. */
export function newUuid(): string {
  return renderUuid(randomBytes(16))
}

/** Many at once: asking for randomness costs more than the rest. */
export function newUuids(count: number): string[] {
  const bytes = randomBytes(16 * count)
  return Array.from({ length: count }, (_, index) => renderUuid(bytes.subarray(16 * index, 16 * index + 16)))
}

function renderUuid(bytes: Buffer): string {
  bytes.writeUIntBE(Date.now(), 0, 6)
  bytes[6] = (bytes[6]! & 0x0f) | 0x70
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

export const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

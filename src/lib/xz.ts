import library from 'xz-decompress'

interface Decoder {
  memory: WebAssembly.Memory
  /** Makes a decoder; its state is an array of uint32 at the returned address, see `field`. */
  create_context(): number
  destroy_context(context: number): void
  supply_input(context: number, size: number): void
  get_next_output(context: number): number
}

/** The library's class, with the two members that it does not publish. */
interface Library {
  _getModuleInstance(): Promise<void>
  _moduleInstance: { exports: Decoder }
}

const field = { bufferSize: 0, input: 1, inputDone: 2, inputSize: 3, output: 4, outputSize: 5 } as const
// What get_next_output answers (xz-embedded's xz.h); everything else means damage.
const result = { ok: 0, end: 1, memoryLimit: 4 } as const

/**
 * Unpacks xz, also several streams after each other. Dictionaries above 64 MiB are refused.
 *
 * The library's own stream is passed by, because it shares one decoder among all streams of a process and so stands still as soon as
 * two are read in turns, and because it ends after the first of several streams. Here every stream has its own WebAssembly memory.
 */
export async function* unxz(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decoder = await openDecoder()
  let unpacking: ReturnType<typeof openStream> | undefined
  for await (const chunk of bytes) {
    for (let rest = chunk; rest.length > 0; ) {
      if (!unpacking) {
        // Between and after streams there may be zero bytes.
        const next = rest.findIndex((byte) => byte !== 0)
        if (next < 0) break
        rest = rest.subarray(next)
        unpacking = openStream(decoder)
      }
      const supplied = unpacking.supply(rest)
      yield* unpacking.outputs()
      rest = rest.subarray(supplied - unpacking.unused())
      if (unpacking.ended()) {
        unpacking.close()
        unpacking = undefined
      }
    }
  }
  if (unpacking) throw Object.assign(new Error('xz data ends early'), { code: 'ERR_CUT_SHORT' })
}

async function openDecoder(): Promise<Decoder> {
  const shared = library.XzReadableStream as unknown as Library
  await shared._getModuleInstance()
  return shared._moduleInstance.exports
}

function openStream(decoder: Decoder) {
  const context = decoder.create_context()
  // Memory that grows has a new buffer.
  const fields = () => new Uint32Array(decoder.memory.buffer, context, 6)
  const bufferSize = fields()[field.bufferSize]!
  let ended = false

  function supply(chunk: Uint8Array): number {
    const part = chunk.subarray(0, bufferSize)
    new Uint8Array(decoder.memory.buffer).set(part, fields()[field.input])
    decoder.supply_input(context, part.length)
    return part.length
  }

  function* outputs() {
    for (;;) {
      const answer = decoder.get_next_output(context)
      if (answer === result.memoryLimit)
        throw Object.assign(new Error('xz dictionary above 64 MiB'), { code: 'ERR_DICTIONARY_TOO_LARGE' })
      if (answer !== result.ok && answer !== result.end) throw new Error(`xz decoder answered ${answer}`)
      ended = answer === result.end
      const state = fields()
      const size = state[field.outputSize]!
      if (size > 0) yield new Uint8Array(decoder.memory.buffer).slice(state[field.output]!, state[field.output]! + size)
      fields()[field.outputSize] = 0
      if (ended || (size < bufferSize && unused() === 0)) return
    }
  }

  function unused(): number {
    const state = fields()
    return state[field.inputSize]! - state[field.inputDone]!
  }
  return { supply, outputs, unused, ended: () => ended, close: () => decoder.destroy_context(context) }
}

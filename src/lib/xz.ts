import library from 'xz-decompress'

interface Decoder {
  memory: { buffer: ArrayBuffer }
  /** Makes a decoder; its state is an array of uint32 at the returned address, see `field`. */
  create_context(): number
  /** Announces so many bytes in the input buffer; none means that the data ends. */
  supply_input(context: number, size: number): void
  get_next_output(context: number): number
}

/** The library's class, with the two members that it does not publish. */
interface Library {
  _getModuleInstance(): Promise<void>
  _moduleInstance: { exports: Decoder }
}

const field = { bufferSize: 0, input: 1, inputDone: 2, inputSize: 3, output: 4, outputSize: 5 } as const
// What get_next_output answers (enum xz_ret of xz-embedded); everything else means damage.
const answers = { ok: 0, end: 1, memoryLimit: 4, noProgress: 8 } as const
const footerEnd = Buffer.from('YZ')

/**
 * Unpacks xz, also several streams after each other. Dictionaries above 64 MiB are refused.
 *
 * The library's own stream is passed by, because it shares one decoder among all streams of a process and so stands still as soon as
 * two are read in turns. Here every stream has a WebAssembly memory of its own, which goes when the stream does.
 */
export async function* unxz(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decoder = await openDecoder()
  let tail = Buffer.alloc(0)
  for await (const chunk of bytes) {
    tail = Buffer.concat([tail, withoutPadding(chunk).subarray(-2)]).subarray(-2)
    for (let start = 0; start < chunk.length; start += decoder.inputSize)
      yield* decoder.unpack(chunk.subarray(start, start + decoder.inputSize))
  }
  // The decoder does not mind half a header or footer.
  if (!tail.equals(footerEnd)) throw cutShort()
  yield* decoder.unpack(new Uint8Array())
}

/** Zero bytes may follow the data. */
function withoutPadding(chunk: Uint8Array): Uint8Array {
  return chunk.subarray(0, chunk.findLastIndex((byte) => byte !== 0) + 1)
}

async function openDecoder() {
  const shared = library.XzReadableStream as unknown as Library
  await shared._getModuleInstance()
  const decoder = shared._moduleInstance.exports
  const context = decoder.create_context()
  // Memory that grows gets another buffer, so the view is made anew each time.
  const state = () => new Uint32Array(decoder.memory.buffer, context, 6)
  const inputSize = state()[field.bufferSize]!

  function* unpack(part: Uint8Array) {
    new Uint8Array(decoder.memory.buffer).set(part, state()[field.input])
    decoder.supply_input(context, part.length)
    for (let more = true; more; ) {
      const ended = check(decoder.get_next_output(context))
      const [size, output] = [state()[field.outputSize]!, state()[field.output]!]
      more = !ended && (size === inputSize || state()[field.inputDone]! < state()[field.inputSize]!)
      state()[field.outputSize] = 0
      if (size > 0) yield new Uint8Array(decoder.memory.buffer).slice(output, output + size)
    }
  }
  return { inputSize, unpack }
}

function cutShort(): Error {
  return Object.assign(new Error('xz data ends early'), { code: 'ERR_CUT_SHORT' })
}

/** Whether the data has ended; throws when it is not as it should be. */
function check(answer: number): boolean {
  if (answer === answers.noProgress) throw cutShort()
  if (answer === answers.memoryLimit)
    throw Object.assign(new Error('xz dictionary above 64 MiB'), { code: 'ERR_DICTIONARY_TOO_LARGE' })
  if (answer !== answers.ok && answer !== answers.end) throw new Error(`xz decoder answered ${answer}`)
  return answer === answers.end
}

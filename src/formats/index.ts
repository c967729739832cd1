import type { Format } from '../core/format.ts'
import { container } from './container/index.ts'
import { file } from './file/index.ts'
import { rpm } from './rpm/index.ts'

/** Every format, in the order in which they are listed. */
export const formats: readonly Format[] = [rpm, container, file]

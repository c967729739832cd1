/** What kind of trouble a Failure is; `http/failures.ts` gives each its HTTP status. */
export type FailureCode = 'invalid' | 'denied' | 'not_found' | 'conflict' | 'integrity' | 'upstream'

interface FailureOptions extends ErrorOptions {
  /** The request field that is wrong; for `invalid` only. Pulp answers `{"<field>": ["<message>"]}`. */
  field?: string
  /** All that is wrong, when one message cannot say it; for `invalid` only. A list is not about one field. */
  problems?: Problems
}

/** Messages, by field where they are about one; an item of a list has its index as key. Pulp answers with exactly this. */
export type Problems = readonly string[] | { readonly [field: string]: Problems }

/** Something a user can understand and act on. Anything else that is thrown is a bug. */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly code: FailureCode
  readonly field: string | undefined
  readonly problems: Problems | undefined

  constructor(code: FailureCode, message: string, options?: FailureOptions) {
    super(message, options)
    this.code = code
    this.field = options?.field
    this.problems = options?.problems
  }
}

/** Whether `error` carries this Node or SQLite error code (`ENOENT`, `EEXIST`, ...). */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

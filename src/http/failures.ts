import { Failure, type FailureCode } from '../lib/failure.ts'

/** The HTTP status of each kind of failure. */
export const statusOf = {
  invalid: 400,
  denied: 403,
  not_found: 404,
  conflict: 409,
  integrity: 400,
  upstream: 502,
} as const satisfies Record<FailureCode, number>

/** The body that Pulp's API gives a failure: problems by field where it is about fields, else one `detail`. */
export function pulpBody(failure: Failure): unknown {
  if (failure.problems) return failure.problems
  if (failure.field) return { [failure.field]: [failure.message] }
  if (failure.code === 'invalid' || failure.code === 'integrity') return { non_field_errors: [failure.message] }
  return { detail: failure.message }
}

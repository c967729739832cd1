import { Failure, type Problems } from '../../../lib/failure.ts'

/** A request that is wrong, perhaps in several places: the problems are the body of the 400, as Pulp would say them. */
export function invalid(problems: Problems): Failure {
  return new Failure('invalid', 'The request is not valid.', { problems })
}

/** A body that cannot be read at all; Pulp's 400 for it says `detail`. */
export class BrokenBody extends Error {
  override readonly name = 'BrokenBody'
}

/** The 400 of one field: `{"name": ["This field is required."]}`. */
export function invalidField(field: string, message: string): Failure {
  return invalid({ [field]: [message] })
}

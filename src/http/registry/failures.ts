import type { OutgoingHttpHeaders } from 'node:http'
import { Failure, type FailureCode } from '../../lib/failure.ts'

/** The errors of the protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes */
const ociErrors = {
  BLOB_UNKNOWN: [404, 'not_found'],
  BLOB_UPLOAD_INVALID: [400, 'invalid'],
  BLOB_UPLOAD_UNKNOWN: [404, 'not_found'],
  DIGEST_INVALID: [400, 'integrity'],
  MANIFEST_BLOB_UNKNOWN: [400, 'invalid'],
  MANIFEST_INVALID: [400, 'invalid'],
  MANIFEST_UNKNOWN: [404, 'not_found'],
  NAME_INVALID: [400, 'invalid'],
  NAME_UNKNOWN: [404, 'not_found'],
  SIGNATURE_INVALID: [400, 'invalid'],
  SIZE_INVALID: [400, 'invalid'],
  UNAUTHORIZED: [401, 'denied'],
  DENIED: [403, 'denied'],
  UNSUPPORTED: [405, 'invalid'],
  TOOMANYREQUESTS: [429, 'denied'],
} as const satisfies Record<string, readonly [status: number, code: FailureCode]>

export type OciCode = keyof typeof ociErrors

interface OciOptions extends ErrorOptions {
  /** Where the protocol asks for another one than usual. */
  status?: number
  headers?: OutgoingHttpHeaders
  /** Of a token that is not enough: clients get another one when they are told so. */
  token?: 'invalid_token' | 'insufficient_scope'
  /** What each of several errors of this kind is about; one without details by default. */
  details?: readonly unknown[]
}

/** What a client of the registry is told in the words of its protocol. */
export class OciFailure extends Failure {
  readonly oci: OciCode
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  readonly token: OciOptions['token']
  readonly details: readonly unknown[]

  constructor(oci: OciCode, message: string, { status, headers, token, details, cause }: OciOptions = {}) {
    super(ociErrors[oci][1], message, { cause })
    this.oci = oci
    this.status = status ?? ociErrors[oci][0]
    this.headers = headers ?? {}
    this.token = token
    this.details = details ?? [undefined]
  }
}

const plain: Partial<Record<FailureCode, OciCode>> = {
  invalid: 'MANIFEST_INVALID',
  integrity: 'DIGEST_INVALID',
  denied: 'TOOMANYREQUESTS',
}

/** What the verbs throw, in the words of the protocol; undefined for what the client is not to blame for. */
export function asOciFailure(error: unknown): OciFailure | undefined {
  if (error instanceof OciFailure) return error
  const code = error instanceof Failure ? plain[error.code] : undefined
  return code && new OciFailure(code, (error as Failure).message, { cause: error })
}

/** The body of an answer that tells of a failure. */
export function ociBody(code: string, message: string, details: readonly unknown[] = [undefined]): Buffer {
  const errors = details.map((detail) => ({ code, message, ...(detail !== undefined && { detail }) }))
  return Buffer.from(JSON.stringify({ errors }))
}

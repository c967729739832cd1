import { lookups, baseFields } from './engine/filters.ts'
import { answerSchema, listing, reading } from './engine/operations.ts'
import type { Field, Fields, Resource } from './engine/resource.ts'

const text: Field = { type: 'string', required: true }

const fields: Fields = {
  name: { ...text, description: 'A unique name used to recognize a script.' },
  public_key: { ...text, description: 'The value of a public key used for the repository verification.' },
  pubkey_fingerprint: { ...text, description: 'The fingerprint of the public key.' },
  script: { ...text, description: 'An absolute path to a signing script (or executable) located on the file system.' },
}
const answer = answerSchema('SigningService', baseFields, fields)

/** Signing services: `signalbox signing-service` makes them, nobody who asks over the network. */
export const signingServices: Resource<'signing_service'> = {
  path: 'signing-services',
  app: 'core',
  model: 'SigningService',
  table: 'signing_service',
  kind: 'signing_service',
  fields,
  filters: lookups('name', 'signing_service.name', 'text', ['exact']),
  ordering: {
    name: 'signing_service.name',
    public_key: '',
    pubkey_fingerprint: 'signing_service.fingerprint',
    script: 'signing_service.script',
  },
  show: async (_call, rows) =>
    rows.map(({ name, public_key, fingerprint, script }) => ({ name, public_key, pubkey_fingerprint: fingerprint, script })),
  operations: [listing(answer, 'admin'), reading(answer, 'admin')],
}

import type { Migration } from 'kysely/migration'
import * as first from './001-first.ts'
import * as accessPolicies from './002-access-policies.ts'
import * as membershipTime from './003-membership-time.ts'
import * as references from './004-references.ts'
import * as sessions from './005-sessions.ts'
import * as pullThrough from './006-pull-through.ts'
import * as mirrors from './007-mirrors.ts'
import * as signingServices from './008-signing-services.ts'
import * as listings from './009-listings.ts'

/** In the order they are applied. A released migration never changes; later versions add to the list. */
export const migrations: Record<string, Migration> = {
  '001-first': first,
  '002-access-policies': accessPolicies,
  '003-membership-time': membershipTime,
  '004-references': references,
  '005-sessions': sessions,
  '006-pull-through': pullThrough,
  '007-mirrors': mirrors,
  '008-signing-services': signingServices,
  '009-listings': listings,
}

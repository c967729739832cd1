import type { IncomingMessage } from 'node:http'
import { authenticate, remembered, type User } from '../../core/access/auth.ts'
import type { Ctx } from '../../core/ctx.ts'
import { OciFailure } from './failures.ts'
import type { Access, Tokens } from './tokens.ts'

/** Who asks, and what the token that they ask with is for: anything when they gave a password, or nothing at all. */
export interface Caller {
  readonly user: User | undefined
  readonly access: readonly Access[] | undefined
}

export type Action = 'pull' | 'push' | 'delete'

const nobody: Caller = { user: undefined, access: undefined }

/** Who a request comes from. `tokens` where they are taken. Throws OciFailure UNAUTHORIZED for credentials that are wrong. */
export async function identify(ctx: Ctx, tokens: Tokens | undefined, { headers, socket }: IncomingMessage): Promise<Caller> {
  const { authorization } = headers
  if (authorization === undefined) return nobody
  const token = tokens && tokenOf(authorization)
  if (token !== undefined) {
    const bearer = await tokens!.verify(token)
    if (!bearer) throw new OciFailure('UNAUTHORIZED', 'The token is not good, or not any more.', { token: 'invalid_token' })
    return bearer
  }
  const user = await authenticate(ctx, authorization, socket.remoteAddress)
  if (!user) throw new OciFailure('UNAUTHORIZED', 'The user name or the password is wrong.')
  return { user, access: undefined }
}

/** As identify, from memory alone. Undefined when it would have to look. */
export function recallCaller(ctx: Ctx, tokens: Tokens | undefined, authorization: string | undefined): Caller | undefined {
  if (authorization === undefined) return nobody
  const token = tokens && tokenOf(authorization)
  if (token !== undefined) return tokens!.recall(token)
  const user = remembered(ctx, authorization)
  return user && { user, access: undefined }
}

/** Whether a caller's token is for this; that they may do it is another question. */
export function covers({ access }: Caller, name: string, action: Action): boolean {
  if (!access) return true
  for (const each of access)
    if (each.type === 'repository' && each.name === name && each.actions.includes(action === 'delete' ? 'push' : action))
      return true
  return false
}

function tokenOf(authorization: string): string | undefined {
  return authorization.length > 7 && authorization.slice(0, 7).toLowerCase() === 'bearer '
    ? authorization.slice(7).trim()
    : undefined
}

import { endSession, openSession } from '../../core/access/sessions.ts'
import { apiRoot, hrefOf } from './engine/hrefs.ts'
import type { Call, Endpoint } from './engine/resource.ts'
import { beginCookies, endCookies, sessionToken } from './engine/session-cookie.ts'

const place = {
  url: `${apiRoot}login/`,
  documented: `${apiRoot}login/`,
  tag: 'Login',
  allow: 'authenticated',
} as const

const answer = {
  schema: 'LoginResponse',
  fields: {
    pulp_href: { type: 'string', format: 'uri', readOnly: true },
    prn: { type: 'string', readOnly: true, description: 'The Pulp Resource Name (PRN).' },
    username: { type: 'string', readOnly: true },
  },
} as const

/** `login/`: who asks. With POST a browser gets a session for its further requests, with DELETE it gives it back. */
export const login: readonly Endpoint[] = [
  {
    ...place,
    name: 'read',
    method: 'GET',
    operationId: 'login_read',
    summary: 'Tell who is logged in',
    answers: { 200: answer },
    run: async (call) => ({ status: 200, body: showUser(call) }),
  },
  {
    ...place,
    name: 'login',
    method: 'POST',
    operationId: 'login',
    summary: 'Begin a session',
    answers: { 201: answer },
    async run(call) {
      const before = sessionToken(call.headers)
      if (before) await endSession(call.ctx.db, before)
      const token = await openSession(call.ctx.db, call.user!)
      const body = showUser(call)
      const cookies = beginCookies(token, (call.ctx.config.origin ?? call.origin).startsWith('https:'))
      return { status: 201, body, headers: { Location: body.pulp_href, ...ofCookies(cookies) } }
    },
  },
  {
    ...place,
    name: 'logout',
    method: 'DELETE',
    operationId: 'logout',
    summary: 'End a session',
    answers: { 204: null },
    async run(call) {
      const token = sessionToken(call.headers)
      if (token) await endSession(call.ctx.db, token)
      return { status: 204, headers: ofCookies(endCookies()) }
    },
  },
]

const ofCookies = (cookies: string[]) => ({ 'Set-Cookie': cookies, Vary: 'Accept, Cookie' })

function showUser({ registry, user }: Call) {
  const { id, username } = user!
  return { pulp_href: hrefOf(registry, 'user', { uuid: id }), prn: `prn:auth.user:${id}`, username }
}

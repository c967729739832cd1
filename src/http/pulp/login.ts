import { apiRoot, hrefOf } from './hrefs.ts'
import type { Endpoint } from './resource.ts'

/** `login/`: who the credentials of a request stand for. Pulp's sessions by cookie are not offered: every client sends Basic. */
export const login: Endpoint = {
  name: 'read',
  method: 'GET',
  url: `${apiRoot}login/`,
  documented: `${apiRoot}login/`,
  operationId: 'login_read',
  tag: 'Login',
  summary: 'Tell who is logged in',
  answers: {
    200: {
      schema: 'LoginResponse',
      fields: {
        pulp_href: { type: 'string', format: 'uri', readOnly: true },
        prn: { type: 'string', readOnly: true, description: 'The Pulp Resource Name (PRN).' },
        username: { type: 'string', readOnly: true },
      },
    },
  },
  allow: 'authenticated',
  async run({ registry, user }) {
    const { id, username } = user!
    return { status: 200, body: { pulp_href: hrefOf(registry, 'user', { uuid: id }), prn: `prn:auth.user:${id}`, username } }
  },
}

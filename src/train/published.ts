import type { Api } from '../api/client.ts'
import type { Publication } from '../api/resources.ts'
import { apiPaths, type FormatName } from './train.ts'

/** Hrefs in one request: a URL must not become too long. */
export const hrefsAtATime = 50

/** The hrefs of the versions that publications of a format are of, by the hrefs of these. */
export async function findPublished(api: Api, format: FormatName, publications: Iterable<string>): Promise<Map<string, string>> {
  const versions = new Map<string, string>()
  const hrefs = [...new Set(publications)]
  for (let at = 0; at < hrefs.length; at += hrefsAtATime) {
    const query = { pulp_href__in: hrefs.slice(at, at + hrefsAtATime), fields: 'pulp_href,repository_version' }
    for await (const { pulp_href, repository_version } of api.list<Publication>(`publications/${apiPaths[format]}`, query))
      versions.set(pulp_href, repository_version)
  }
  return versions
}

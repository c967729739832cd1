import { gzipSync } from 'node:zlib'
import { apiRoot } from './hrefs.ts'
import type { Answer, Call, Endpoint, Field } from './resource.ts'

const lang: Field = { type: 'string', description: 'Ignored: there is one language.' }

/** `docs/api.json` and `docs/api.yaml`: the document, which is made once and then handed out from memory, for every client asks for it first. */
export function documentEndpoints(build: () => unknown): Endpoint[] {
  let plain: Buffer | undefined
  let packed: Buffer | undefined
  const answer = async ({ headers }: Call, type: string): Promise<Answer> => {
    plain ??= Buffer.from(JSON.stringify(build()))
    packed ??= gzipSync(plain)
    const gzip = /\bgzip\b/.test(String(headers['accept-encoding'] ?? ''))
    return {
      status: 200,
      body: gzip ? packed : plain,
      headers: { 'Content-Type': type, Vary: 'Accept, Accept-Encoding', ...(gzip ? { 'Content-Encoding': 'gzip' } : {}) },
    }
  }
  const endpoint = (name: string, type: string): Endpoint => ({
    name: 'get',
    method: 'GET',
    url: `${apiRoot}docs/${name}`,
    documented: `${apiRoot}docs/${name}`,
    operationId: `docs_${name}_get`,
    tag: 'Docs: Api',
    summary: 'OpenAPI document',
    parameters: [{ name: 'lang', in: 'query', field: lang }],
    answers: { 200: { schema: '', fields: {} } },
    allow: 'anyone',
    run: (call) => answer(call, type),
  })
  // JSON is YAML too.
  return [endpoint('api.json', 'application/json'), endpoint('api.yaml', 'application/yaml')]
}

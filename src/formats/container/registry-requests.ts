import { type Question, UpstreamFailure, type Upstream } from '../../core/fetch/fetch.ts'
import { Failure } from '../../lib/failure.ts'
import { digestOf, isDigest } from './digest.ts'
import { type Descriptor, type Manifest, manifestLimit, parseManifest } from './manifest.ts'
import { isManifestType, manifestTypes, ociIndex } from './media-types.ts'
import { largestSignature } from './signature.ts'
import { hasDigest } from './signed-first.ts'

/* What a registry is asked for: https://github.com/opencontainers/distribution-spec/blob/main/spec.md */

/** A manifest, its bytes verified. */
export interface FetchedManifest {
  digest: string
  bytes: Buffer
  manifest: Manifest
}

/** One image (repository) of an upstream registry. Everything it throws is a Failure that names the image. */
export interface ImageSource {
  /** `stackhpc/nova-api`. */
  readonly name: string
  tags(): Promise<string[]>
  /** The digest that a tag has now; undefined when the registry does not say. */
  digestOf(tag: string): Promise<string | undefined>
  /** A manifest by tag or digest; undefined when it is not there. */
  manifest(reference: string): Promise<FetchedManifest | undefined>
  /** What names this manifest as its subject; undefined when the registry cannot be asked that. */
  referrers(digest: string): Promise<readonly Descriptor[] | undefined>
  /** The bytes of a small blob. */
  blob(descriptor: Descriptor): Promise<Buffer>
  blobUrl(digest: string): URL
  /** What the remote's sigstore, or else the registry, has as signatures of a manifest; undefined when neither is there or has any way to ask. */
  signatures(digest: string): Promise<readonly Buffer[] | undefined>
}

const mostTags = 1_000_000
const mostReferrers = 10_000
const mostSignatures = 500
const tagPattern = /^\w[\w.-]{0,127}$/
const accepted = manifestTypes.join(', ')
/** How registries without an API of referrers answer; 404 is what the specification says. */
const unsupported = new Set([400, 404, 405, 406, 410, 501])

export function openImageSource(upstream: Upstream, name: string, signal: AbortSignal, sigstore?: string): ImageSource {
  const path = name.split('/').map(encodeURIComponent).join('/')
  const at = (rest: string) => new URL(`/v2/${path}/${rest}`, upstream.access.url)
  let hasSignatures = false
  let hasReferrers: boolean | undefined
  let firstAsked: Promise<unknown> | undefined

  /** Every answer of a registry says whether it has signatures. */
  async function ask(url: URL, question: Question) {
    const answer = await upstream.ask(url, question, signal)
    hasSignatures ||= answer.headers['x-registry-supports-signatures'] === '1'
    return answer
  }

  /** The pages of a list, each named by the Link of the one before. */
  async function* pages(start: URL, accept: string) {
    const seen = new Set<string>()
    for (let url: URL | undefined = start; url; ) {
      if (seen.has(url.href)) throw new Failure('integrity', `The list of ${name} that the upstream gives does not end.`)
      seen.add(url.href)
      const { bytes, headers } = await ask(url, { headers: { accept } })
      yield bytes
      url = nextOf(headers['link'], url)
    }
  }

  async function tags(): Promise<string[]> {
    const found = new Set<string>()
    for await (const bytes of pages(at('tags/list'), 'application/json')) {
      const page = (parseJson(bytes, `the list of the tags of ${name}`) as { tags?: unknown }).tags ?? []
      if (!Array.isArray(page)) throw new Failure('integrity', `The upstream gives no list of the tags of ${name}.`)
      for (const tag of page) {
        if (typeof tag !== 'string' || !tagPattern.test(tag))
          throw new Failure(
            'integrity',
            `The upstream lists ${JSON.stringify(tag).slice(0, 200)}, which is no tag, among those of ${name}.`,
          )
        found.add(tag)
      }
      if (found.size > mostTags) throw new Failure('integrity', `The upstream lists more than ${mostTags} tags of ${name}.`)
    }
    return [...found]
  }

  async function digestOfTag(tag: string): Promise<string | undefined> {
    try {
      const { headers } = await ask(at(`manifests/${tag}`), { method: 'HEAD', headers: { accept: accepted } })
      const digest = headers['docker-content-digest']
      return isDigest(digest) ? digest : undefined
    } catch (error) {
      // Not every registry answers HEAD as it should; what is really gone is not found by GET either.
      if (isUpstream(error) && error.status !== undefined && [404, 405, 410, 501].includes(error.status)) return undefined
      throw error
    }
  }

  async function manifest(reference: string): Promise<FetchedManifest | undefined> {
    const found = await orNothing(
      ask(at(`manifests/${reference}`), { headers: { accept: accepted }, expected: { limit: manifestLimit } }),
    )
    if (!found) return undefined
    const { bytes, headers } = found
    const named = isDigest(reference) ? reference : headers['docker-content-digest']
    const digest = isDigest(named) ? named : digestOf(bytes)
    const parsed = parse(bytes, headers['content-type'], `${name}${isDigest(reference) ? '@' : ':'}${reference}`)
    if (!hasDigest(bytes, digest))
      throw new Failure('integrity', `The upstream gives other bytes than ${digest} as that manifest of ${name}.`)
    return { digest, bytes, manifest: parsed }
  }

  /** The first question shows whether there is an answer at all: those that come meanwhile wait for it. */
  async function referrers(digest: string): Promise<readonly Descriptor[] | undefined> {
    const first = firstAsked
    if (first) await first.catch(() => {})
    if (hasReferrers === false) return undefined
    const asked = askReferrers(digest)
    firstAsked ??= asked
    return asked
  }

  async function askReferrers(digest: string): Promise<readonly Descriptor[] | undefined> {
    const found: Descriptor[] = []
    try {
      for await (const bytes of pages(at(`referrers/${digest}`), ociIndex)) {
        found.push(...parse(bytes, ociIndex, `the referrers of ${name}@${digest}`).manifests)
        if (found.length > mostReferrers)
          throw new Failure('integrity', `${name}@${digest} has more than ${mostReferrers} referrers upstream.`)
      }
    } catch (error) {
      const cannot = isUpstream(error) ? unsupported.has(error.status ?? 0) : error instanceof Failure && error.code === 'invalid'
      if (!cannot) throw error
      // One that answered before has the API, and nothing about this manifest.
      if (hasReferrers) return []
      hasReferrers = false
      return undefined
    }
    hasReferrers = true
    return found
  }

  /** Numbered from 1 without gaps: https://github.com/containers/image/blob/main/docs/signature-protocols.md#signature-access-protocols */
  async function signaturesBeside(digest: string, store: string): Promise<Buffer[]> {
    const found: Buffer[] = []
    const base = `${store.replace(/\/+$/, '')}/${path}@${digest.replace(':', '=')}`
    for (;;) {
      const url = new URL(`${base}/signature-${found.length + 1}`)
      const next = await upstream.read([url], { limit: largestSignature }, signal).catch((error: unknown) => {
        if (isUpstream(error) && error.absent) return undefined
        throw error
      })
      if (!next) return found
      found.push(next.bytes)
      if (found.length > mostSignatures)
        throw new Failure('integrity', `The sigstore has more than ${mostSignatures} signatures of ${name}@${digest}.`)
    }
  }

  async function signaturesInside(digest: string): Promise<Buffer[]> {
    const url = new URL(`/extensions/v2/${path}/signatures/${digest}`, upstream.access.url)
    const answer = await orNothing(ask(url, { headers: { accept: 'application/json' } }))
    if (!answer) return []
    const { signatures = [] } = parseJson(answer.bytes, `the signatures of ${name}@${digest}`) as { signatures?: unknown }
    if (!Array.isArray(signatures)) return []
    return signatures.slice(0, mostSignatures).flatMap((each: Record<string, unknown> | null) => {
      const isKnown = each?.['schemaVersion'] === 2 && each['type'] === 'atomic'
      return isKnown && typeof each['content'] === 'string' ? [Buffer.from(each['content'], 'base64')] : []
    })
  }

  return {
    name,
    async signatures(digest) {
      if (sigstore) return signaturesBeside(digest, sigstore)
      return hasSignatures ? signaturesInside(digest) : undefined
    },
    tags,
    digestOf: digestOfTag,
    manifest,
    referrers,
    async blob({ digest, size }) {
      return (await upstream.read([at(`blobs/${digest}`)], { checksum: digest, size }, signal)).bytes
    },
    blobUrl: (digest) => at(`blobs/${digest}`),
  }
}

/** What a Link header names as the next page. Only its path counts: some registries behind a proxy do not know their own origin. */
function nextOf(link: string | string[] | undefined, url: URL): URL | undefined {
  for (const each of [link ?? []].flat()) {
    const next = /<([^>]*)>\s*;[^,]*\brel="?next"?/i.exec(each)
    const target = next && URL.parse(next[1]!, url)
    if (target) return new URL(target.pathname + target.search, url)
  }
  return undefined
}

function parse(bytes: Uint8Array, contentType: string | string[] | undefined, what: string): Manifest {
  const type = String(contentType ?? '')
    .split(';', 1)[0]!
    .trim()
  try {
    // Registries that do not know what they have call it application/json or the like.
    return parseManifest(bytes, isManifestType(type) ? type : undefined)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    throw new Failure(error.code, `${what}: ${error.message}`, { cause: error })
  }
}

function parseJson(bytes: Buffer, what: string): object {
  try {
    const body: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof body === 'object' && body !== null) return body
  } catch (error) {
    throw new Failure('integrity', `What the upstream gives as ${what} is not JSON.`, { cause: error })
  }
  throw new Failure('integrity', `The upstream gives something else as ${what}.`)
}

async function orNothing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (isUpstream(error) && error.notFound) return undefined
    throw error
  }
}

function isUpstream(error: unknown): error is UpstreamFailure {
  return error instanceof UpstreamFailure
}

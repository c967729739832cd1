import type { Described, Uploaded } from '../../core/format.ts'
import { decompress } from '../../lib/compression.ts'
import { Failure } from '../../lib/failure.ts'
import { checkPath } from '../../lib/safe-path.ts'
import { readComps } from './comps.ts'
import { parseHeader } from './header.ts'
import { describeDefaults, describeModulemd, describeObsolete, type ModulemdFields } from './modulemd.ts'
import { describePackage } from './package.ts'
import { parsePrimary } from './primary.ts'
import { renderPackage } from './render-package.ts'
import { describeAdvisory } from './updateinfo.ts'
import { parseUploadedAdvisory } from './upload-advisory.ts'

const mostAdvisoryBytes = 64 * 1024 * 1024
const mostCompsBytes = 256 * 1024 * 1024

/**
 * Describes what a user uploads or creates: a package, an advisory (JSON), module documents (fields), and `rpm.comps`, a comps.xml that
 * becomes its groups, categories, environments and language packs. Throws Failure invalid.
 */
export async function inspect(upload: Uploaded): Promise<Described[]> {
  const { fields } = upload
  const snippet = textOf(fields['snippet'])
  switch (upload.type) {
    case 'rpm.package':
      return [await inspectPackage(fileOf(upload), fields['relative_path'])]
    case 'rpm.advisory':
      return [describeAdvisory(parseUploadedAdvisory(await readAll(fileOf(upload), mostAdvisoryBytes)))]
    case 'rpm.comps':
      return asInvalid(readComps, await readAll(fileOf(upload), mostCompsBytes))
    case 'rpm.modulemd':
      return [inspectModulemd(fields, snippet)]
    case 'rpm.modulemd_defaults':
      return [
        describeDefaults(
          { module: textOf(fields['module']), stream: textOf(fields['stream']), profiles: fields['profiles'] },
          snippet,
        ),
      ]
    case 'rpm.modulemd_obsolete':
      return [describeObsolete(fields, snippet)]
    default:
      throw new Failure('invalid', `Content of type ${upload.type} cannot be uploaded.`)
  }
}

/** Fields were checked when the request came in: what should be a text is one. */
function textOf(field: unknown): string {
  return typeof field === 'string' ? field : ''
}

type UploadedFile = NonNullable<Uploaded['file']>

function fileOf({ file }: Uploaded): UploadedFile {
  if (!file) throw new Failure('invalid', 'A file is needed: give one of file, artifact or upload.')
  return file
}

async function inspectPackage(file: UploadedFile, asked: unknown): Promise<Described> {
  const { size, digests } = file
  const header = await parseHeader(await file.open(), typeof asked === 'string' && asked !== '' ? asked : 'The uploaded file')
  const { name, version, release, arch } = header
  const path = checkPath(typeof asked === 'string' && asked !== '' ? asked : `${name}-${version}-${release}.${arch}.rpm`)
  const checksum = { type: 'sha256', value: digests.sha256 }
  const fragments = renderPackage(header, { checksum, size, fileTime: Math.floor(Date.now() / 1000), location: path })
  const [primary, filelists, other] = [fragments.primary, fragments.filelists, fragments.other].map((text) =>
    Buffer.from(text.trimEnd()),
  )
  return describePackage(asInvalid(parsePrimary, primary!), {
    lists: { filelists: filelists!, other: other! },
    isModular: header.modularityLabel !== undefined,
    file: { path, size, checksum: `sha256:${digests.sha256}`, sha256: digests.sha256 },
  })
}

function inspectModulemd(fields: Record<string, unknown>, snippet: string): Described {
  const text = (name: keyof ModulemdFields) => textOf(fields[name])
  return describeModulemd(
    {
      name: text('name'),
      stream: text('stream'),
      version: text('version'),
      context: text('context'),
      arch: text('arch'),
      static_context: typeof fields['static_context'] === 'boolean' ? fields['static_context'] : null,
    },
    {
      snippet,
      artifacts: fields['artifacts'] ?? null,
      dependencies: fields['dependencies'] ?? null,
      profiles: fields['profiles'] ?? null,
      description: textOf(fields['description']),
      packages: fields['packages'] ?? [],
    },
  )
}

async function readAll(file: UploadedFile, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  // Comps may come as gzip, xz, zstd; an advisory is none of these and passes as it is.
  for await (const chunk of decompress(await file.open(), { limit })) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** What would be a broken upstream in a sync is a wrong request here. */
function asInvalid<T>(read: (bytes: Buffer) => T, bytes: Buffer): T {
  try {
    return read(bytes)
  } catch (error) {
    if (error instanceof Failure && error.code === 'integrity') throw new Failure('invalid', error.message, { cause: error })
    throw error
  }
}

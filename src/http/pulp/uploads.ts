import { createHash } from 'node:crypto'
import { Failure } from '../../lib/failure.ts'
import { grantToCreator } from '../../core/access/auth.ts'
import { prnOf } from '../../core/names.ts'
import { addChunk, type Chunk, chunksOf, createUpload, deleteUpload, writeChunk } from '../../core/uploads.ts'
import { baseFields, lookups } from './engine/filters.ts'
import { invalid } from './engine/invalid.ts'
import { showRow } from './engine/list.ts'
import {
  answerSchema,
  created,
  creating,
  deleting,
  listing,
  postponed,
  prnOfRow,
  reading,
  roleOperations,
  taskAnswer,
} from './engine/operations.ts'
import type { Call, Fields, Resource } from './engine/resource.ts'

const fields: Fields = {
  size: { type: 'integer', format: 'int64', required: true, minimum: 0, description: 'The size of the upload in bytes.' },
  completed: { type: 'string', format: 'date-time', readOnly: true, description: 'Timestamp when upload is committed.' },
}
const chunks: Fields = {
  chunks: {
    type: 'array',
    readOnly: true,
    items: {
      type: 'object',
      properties: {
        offset: { type: 'integer', format: 'int64', readOnly: true },
        size: { type: 'integer', format: 'int64', readOnly: true },
      },
    },
  },
}
const answer = answerSchema('Upload', baseFields, fields)
const change = { object: ['core.change_upload'] }

/** Files that arrive in chunks. */
export const uploads: Resource<'upload'> = {
  path: 'uploads',
  app: 'core',
  model: 'Upload',
  table: 'upload',
  kind: 'upload',
  fields,
  filters: lookups('size', 'upload.size', 'number', ['exact', 'gt', 'lt', 'range']),
  ordering: { size: 'upload.size' },
  view: 'core.view_upload',
  show: async (call, rows) =>
    rows.map((row) => ({
      size: row.size,
      // Only a look at one upload tells what of it has arrived.
      ...(call.row && call.method === 'GET' ? { chunks: chunksOf(row).map(([offset, size]) => ({ offset, size })) } : {}),
    })),
  operations: [
    listing(answer),
    reading(answerSchema('UploadDetail', baseFields, { ...fields, ...chunks })),
    creating({
      summary: 'Create an upload',
      body: { schema: 'Upload', fields: { size: fields['size']! } },
      answers: { 201: answer },
      allow: { model: ['core.add_upload'] },
      async run(call) {
        const row = await createUpload(call.ctx, call.body['size'])
        await grantToCreator(call.ctx.db, call.user!.id, ['core.upload_owner'], prnOf(call.ctx.formats, 'upload', row))
        call.ctx.changes.bump()
        return created(call, row)
      },
    }),
    {
      name: 'update',
      method: 'PUT',
      on: 'item',
      summary: 'Upload a file chunk',
      body: {
        schema: 'UploadChunk',
        form: true,
        fields: {
          file: {
            type: 'string',
            format: 'binary',
            required: true,
            writeOnly: true,
            description: 'A chunk of the uploaded file.',
          },
          sha256: {
            type: 'string',
            nullable: true,
            writeOnly: true,
            description: 'The SHA-256 checksum of the chunk if available.',
          },
        },
        file: receiveChunk,
      },
      parameters: [
        {
          name: 'Content-Range',
          in: 'header',
          required: true,
          field: {
            type: 'string',
            description: 'The Content-Range header specifies the location of the file chunk within the file.',
          },
        },
      ],
      answers: { 200: answer },
      allow: change,
      async run(call) {
        const { chunk, sha256 } = call.body['file'] as Received
        const expected: string | null | undefined = call.body['sha256']
        if (expected && expected !== sha256) throw invalid([wrongChunk])
        return { status: 200, body: await showRow(call, call.resource!, await addChunk(call.ctx, call.row, chunk)) }
      },
    },
    {
      name: 'commit',
      method: 'POST',
      on: 'item',
      segment: 'commit',
      summary: 'Finish an Upload',
      body: {
        schema: 'UploadCommit',
        fields: { sha256: { type: 'string', required: true, description: 'The expected sha256 checksum for the file.' } },
      },
      answers: { 202: taskAnswer },
      allow: change,
      run: (call) =>
        postponed(call, {
          name: 'pulpcore.app.tasks.upload.commit',
          kind: 'commit-upload',
          args: { uploadId: call.row.id, sha256: call.body['sha256'] },
          exclusive: [prnOfRow(call)],
        }),
    },
    deleting({
      summary: 'Delete an upload',
      allow: { object: ['core.delete_upload'] },
      remove: (call) => deleteUpload(call.ctx, call.row),
    }),
    ...roleOperations('core.upload', ['core.view_upload']),
  ],
}

/** Pulp says it as a bare list. */
const wrongChunk = 'Checksum does not match chunk upload.'

interface Received {
  chunk: Chunk
  sha256: string
}

/** Writes a chunk to its place while it arrives. Its own checksum may come behind it, so it is kept. */
async function receiveChunk(
  call: Call,
  bytes: AsyncIterable<Uint8Array>,
  before: Readonly<Record<string, unknown>>,
): Promise<Received> {
  const range = /^bytes (\d{1,15})-(\d{1,15})\/(\d+|[*])$/.exec(String(call.headers['content-range'] ?? ''))
  if (!range) throw invalid({ non_field_errors: ['Invalid or missing content range header.'] })
  const offset = Number(range[1])
  const hash = createHash('sha256')
  const hashed = hashWhile(bytes, hash)
  const expected = typeof before['sha256'] === 'string' && before['sha256'] !== '' ? before['sha256'] : undefined
  const chunk = { offset, size: Number(range[2]) - offset + 1, sha256: expected }
  await writeChunk(call.ctx, call.row, chunk, hashed).catch((error: unknown) => {
    if (error instanceof Failure && error.message === wrongChunk) throw invalid([wrongChunk])
    throw error
  })
  return { chunk, sha256: hash.digest('hex') }
}

async function* hashWhile(bytes: AsyncIterable<Uint8Array>, hash: ReturnType<typeof createHash>): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    hash.update(piece)
    yield piece
  }
}

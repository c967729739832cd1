import { filtersOf, orderingsOf } from './list.ts'
import type { AnswerSchema, BodySchema, Endpoint, Field, Fields, Parameter, Resource } from './resource.ts'

/*
 * The OpenAPI 3.0.3 document of the endpoints. Clients build their requests from it, so it keeps to the forms that Pulp's document has:
 * a path that begins with a placeholder stands for a whole href, arrays in queries are joined by commas, no member that glue's model rejects.
 */

type Json = Record<string, unknown>

const encodings = ['application/json', 'application/x-www-form-urlencoded', 'multipart/form-data']
const security = [{ basicAuth: [] }, { cookieAuth: [] }]

/** `versions` are those of the apps, as in the status. */
export function buildDocument(endpoints: readonly Endpoint[], versions: Readonly<Record<string, string>>): Json {
  const schemas: Record<string, Json> = {}
  const paths: Record<string, Record<string, Json>> = {}
  for (const endpoint of endpoints) {
    if (endpoint.hidden) continue
    paths[endpoint.documented] ??= {}
    paths[endpoint.documented]![endpoint.method.toLowerCase()] = documentEndpoint(endpoint, schemas)
  }
  return {
    openapi: '3.0.3',
    info: {
      title: 'Pulp 3 API',
      version: 'v3',
      description: 'Fetch, Upload, Organize, and Distribute Software Packages',
      'x-pulp-app-versions': versions,
      'x-pulp-domain-enabled': false,
    },
    paths: sorted(paths),
    components: {
      schemas: sorted(schemas),
      securitySchemes: {
        basicAuth: { type: 'http', scheme: 'basic' },
        cookieAuth: { type: 'apiKey', in: 'cookie', name: 'sessionid' },
      },
    },
    servers: [{ url: '/' }],
  }
}

function sorted<T>(members: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function documentEndpoint(endpoint: Endpoint, schemas: Record<string, Json>): Json {
  const parameters = parametersOf(endpoint)
  return {
    operationId: endpoint.operationId,
    description: endpoint.summary,
    summary: endpoint.summary,
    // Glue patches some lists while it loads the document, and expects this member there.
    ...(parameters.length > 0 ? { parameters } : {}),
    tags: [endpoint.tag],
    ...(endpoint.body ? { requestBody: requestBody(endpoint.body, schemas) } : {}),
    ...(endpoint.allow === 'anyone' ? {} : { security }),
    responses: Object.fromEntries(
      Object.entries(endpoint.answers).map(([status, answer]) => [
        status,
        answer ? responseOf(answer, schemas) : { description: 'No response body' },
      ]),
    ),
  }
}

function parametersOf(endpoint: Endpoint): Json[] {
  const { resource, documented } = endpoint
  const placeholder = /^\{(\w+)\}/.exec(documented)?.[1]
  const path = placeholder ? [{ in: 'path', name: placeholder, schema: { type: 'string' }, required: true }] : []
  const declared = (endpoint.parameters ?? []).map(parameterOf)
  if (endpoint.method !== 'GET' || !resource) return [...declared, ...path]
  const listed = Object.values(endpoint.answers).some((answer) => answer?.page)
  return [...declared, ...(listed ? listParameters(resource) : []), ...path, ...fieldParameters]
}

const fieldParameters: Json[] = [
  ['fields', 'A list of fields to include in the response.'],
  ['exclude_fields', 'A list of fields to exclude from the response.'],
].map(([name, description]) => ({ in: 'query', name, schema: { type: 'array', items: { type: 'string' } }, description }))

function listParameters(resource: Resource): Json[] {
  const filters = Object.entries(filtersOf(resource)).map(([name, { field, explode }]) =>
    parameterOf({ name, in: 'query', field, explode }),
  )
  const page = [
    {
      name: 'limit',
      required: false,
      in: 'query',
      description: 'Number of results to return per page.',
      schema: { type: 'integer' },
    },
    {
      name: 'offset',
      required: false,
      in: 'query',
      description: 'The initial index from which to return the results.',
      schema: { type: 'integer' },
    },
  ]
  const orders = Object.keys(orderingsOf(resource)).sort()
  const ordering =
    orders.length === 0
      ? []
      : [
          parameterOf({
            name: 'ordering',
            in: 'query',
            field: {
              type: 'array',
              items: { type: 'string', enum: [...orders.map((name) => `-${name}`), ...orders] },
              description: 'Ordering',
            },
          }),
          parameterOf({
            name: 'q',
            in: 'query',
            field: { type: 'string', description: 'Filter results by using NOT, AND and OR operations on other filters' },
          }),
        ]
  return [...filters, ...page, ...ordering].sort((a, b) => (String(a['name']) < String(b['name']) ? -1 : 1))
}

function parameterOf({ name, in: where, required, field, explode = false }: Parameter): Json {
  const { description, ...schema } = schemaOf(field, false)
  const joined = where === 'query' && field.type === 'array' && !explode
  return {
    in: where,
    name,
    schema,
    ...(description ? { description } : joined ? { description: 'Multiple values may be separated by commas.' } : {}),
    ...(required ? { required } : {}),
    ...(joined ? { explode: false, style: 'form' } : {}),
    ...(explode ? { explode, style: 'form' } : {}),
  }
}

function requestBody({ schema, fields, form, partial, documentedPartial }: BodySchema, schemas: Record<string, Json>): Json {
  const patched = partial || documentedPartial
  const name = patched ? `Patched${schema}` : schema
  addSchema(schemas, name, objectSchema(fields, true, patched === true))
  const content = form ? ['multipart/form-data', 'application/x-www-form-urlencoded'] : encodings
  return {
    content: Object.fromEntries(content.map((type) => [type, { schema: { $ref: `#/components/schemas/${name}` } }])),
    required: true,
  }
}

function responseOf({ schema, fields, page }: AnswerSchema, schemas: Record<string, Json>): Json {
  if (schema === '') return { content: { 'application/json': { schema: { type: 'object' } } }, description: '' }
  addSchema(schemas, schema, objectSchema(fields, false, false))
  const name = page ? `Paginated${schema}List` : schema
  if (page) addSchema(schemas, name, pageSchema(schema))
  return { content: { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } }, description: '' }
}

function pageSchema(schema: string): Json {
  const link = { type: 'string', nullable: true, format: 'uri' }
  return {
    type: 'object',
    required: ['count', 'results'],
    properties: {
      count: { type: 'integer', example: 123 },
      next: link,
      previous: link,
      results: { type: 'array', items: { $ref: `#/components/schemas/${schema}` } },
    },
  }
}

/** Two different schemas of one name would make clients check requests against the wrong one. */
function addSchema(schemas: Record<string, Json>, name: string, schema: Json): void {
  const known = schemas[name]
  if (known && JSON.stringify(known) !== JSON.stringify(schema)) throw new Error(`two schemas are called ${name}`)
  schemas[name] = schema
}

function objectSchema(fields: Fields, request: boolean, partial: boolean): Json {
  const shown = Object.entries(fields).filter(([, field]) => !(request && field.readOnly))
  const required = partial ? [] : shown.filter(([, field]) => field.required).map(([name]) => name)
  return {
    type: 'object',
    ...(required.length > 0 ? { required } : {}),
    properties: Object.fromEntries(shown.map(([name, field]) => [name, schemaOf(field, request)])),
  }
}

/** A field in OpenAPI's words. Only requests say that texts must not be empty. */
function schemaOf(field: Field, request: boolean): Json {
  const { description, readOnly, writeOnly, nullable, minimum, maximum, maxLength, pattern } = field
  return {
    ...typeOf(field, request),
    ...(nullable ? { nullable } : {}),
    ...(readOnly ? { readOnly } : {}),
    ...(writeOnly ? { writeOnly } : {}),
    ...(field.default !== undefined && field.default !== null ? { default: field.default } : {}),
    ...(minimum !== undefined ? { minimum } : {}),
    ...(maximum !== undefined ? { maximum } : {}),
    ...(request ? minLengthOf(field) : {}),
    ...(maxLength !== undefined ? { maxLength } : {}),
    ...(pattern ? { pattern } : {}),
    ...(description ? { description } : {}),
  }
}

function typeOf(field: Field, request: boolean): Json {
  switch (field.type) {
    case 'any':
      return {}
    case 'href':
      return { type: 'string', format: 'uri' }
    case 'array':
      return { type: 'array', items: field.items ? schemaOf(field.items, request) : {} }
    case 'object':
      if (field.properties) return objectSchema(field.properties, request, false)
      return { type: 'object', ...(field.items ? { additionalProperties: schemaOf(field.items, request) } : {}) }
    case 'string':
    case 'integer':
    case 'number':
    case 'boolean':
      return {
        type: field.type,
        ...(field.format ? { format: field.format } : {}),
        ...(field.enum ? { enum: [...field.enum] } : {}),
      }
  }
}

function minLengthOf(field: Field): Json {
  if (field.type !== 'string' || field.enum || field.format || field.allowBlank || field.default === '') return {}
  return { minLength: field.minLength ?? 1 }
}

import type { Expression, RawBuilder, SelectQueryBuilder, SqlBool } from 'kysely'
import type { User } from '../../../core/access/auth.ts'
import type { Ctx } from '../../../core/ctx.ts'
import type { Field, Fields } from '../../../core/format.ts'
import type { Kind } from '../../../core/names.ts'
import type { Db } from '../../../store/database.ts'
import type { Row, Schema } from '../../../store/schema.ts'

/*
 * The REST API as data. A Resource declares a type of thing (its table, names, fields, filters) and its operations; an Endpoint is one
 * operation with its address. routes.ts turns endpoints into routes, openapi.ts into the document; nothing else knows either.
 */

/** A column (`repository.name`) or an expression that depends on the engine. */
export type Column = string | ((db: Db) => RawBuilder<unknown>)

export interface Resource<T extends keyof Schema = any> {
  /** Collection below the API root, without slashes at its ends: `repositories/rpm/rpm`. Below a parent its last segment: `versions`. */
  readonly path: string
  /** The resource whose items hold this collection: `groups/<id>/users/`. `column` of this table refers to the parent's id; without one `where` finds them. */
  readonly parent?: { resource: Resource; column?: string }
  /** Pulp's app label and model: `core`, `RbacContentGuard`. They name placeholders, schemas and the text of a 404. */
  readonly app: string
  readonly model: string
  /** Placeholder of an item's href and name of the schemas, where they do not follow from app and model. */
  readonly placeholder?: string
  readonly schema?: string
  readonly table: T
  /** What to select from instead of the table, under its name: for what is no table of its own. */
  readonly from?: RawBuilder<unknown>
  /** For PRNs. Undefined: it has none. `type` is the row's type column, by which rows of this resource are chosen. */
  readonly kind?: Kind
  readonly type?: string
  /** The column that names an item in its href; `uuid` by default. */
  readonly key?: 'uuid' | 'id' | 'number'
  /** Everything in a request or a response; readOnly and writeOnly tell which. pulp_href, prn, pulp_created, pulp_last_updated are added when `base` is not false. */
  readonly fields: Fields
  readonly base?: boolean
  readonly filters: Filters
  /** Pulp's name of an order to the column it means (`repository.name`). pulp_id, pk, pulp_created, pulp_last_updated are added. */
  readonly ordering: Readonly<Record<string, Column>>
  /** The permission to see an item: lists hold only what the user may view, anything else is 404. Undefined: everybody sees all. */
  readonly view?: string
  /** The rows that the user may see, where that does not only depend on the permission `view`; undefined when that is all. */
  visible?(call: Call): Promise<Expression<SqlBool> | undefined>
  /** Narrows the rows further than `type` does. */
  where?(query: Rows<T>, call: Call): Rows<T> | Promise<Rows<T>>
  /** What an answer says of rows, in their order, without the base fields that the engine adds. `wanted` says whether a field is asked for. */
  show(call: Call, rows: readonly Row<T>[], wanted: (field: string) => boolean): Promise<Record<string, unknown>[]>
  /** Everything that can be done; listing() and reading() below are the usual first two. */
  readonly operations: readonly Operation[]
  /** A list of several resources (`repositories/`), not a place of its own: rows are named by their own type. */
  readonly generic?: boolean
  /** How many rows a list has, where that is known without counting them. */
  count?(call: Call, filters: readonly { name: string; value: unknown }[], hasExpression: boolean): Promise<number | undefined>
}

/** A select from one table with its row's columns, to be narrowed. */
export type Rows<T extends keyof Schema> = SelectQueryBuilder<Schema, any, Row<T>>

export type Filters = Readonly<Record<string, Filter>>

/** One query parameter of a list. */
export interface Filter {
  /** What it takes; arrays are comma-joined. Also its schema in the document. */
  readonly field: Field
  /** It fits so many rows that others are better to begin with. */
  readonly broad?: boolean
  /** Clients repeat the parameter instead of joining by commas. Both are taken. */
  readonly explode?: boolean
  /** What an empty value is answered with: nothing that is found, or this refusal. By default it is as if the filter were not there. */
  readonly empty?: 'nothing' | { refusal: string }
  /** Throws Failure invalid, with the filter's name as field, for what `field` alone cannot tell to be wrong. */
  check?(value: any): void
  /** The condition. `value` is parsed as `field` says. Throw Failure invalid with the filter's name as field for a bad one. */
  where(value: any, call: Call): Expression<SqlBool> | Promise<Expression<SqlBool>>
  /** A quicker way for a list: joins a table, and says which order is the newest first then. */
  join?(rows: Rows<any>, value: any, call: Call): Promise<{ rows: Rows<any>; newestFirst: RawBuilder<unknown> }>
}

/** Something that can be done with a collection or an item. */
export interface Operation {
  /** Last part of the operation id: `list`, `create`, `read`, `update`, `partial_update`, `delete`, `sync`. */
  readonly name: string
  /** The whole operation id, where it is irregular. */
  readonly id?: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly on: 'collection' | 'item'
  /** Segment behind the collection or the item: `sync`. */
  readonly segment?: string
  readonly summary: string
  readonly body?: BodySchema
  /** Beyond what list and read take. */
  readonly parameters?: readonly Parameter[]
  /** Answers in the document: the first is the good one. A schema of null has no body. `Page` marks a list of it. */
  readonly answers: Readonly<Record<number, AnswerSchema | null>>
  readonly allow: Rule
  run(call: Call): Promise<Answer>
}

/** An operation with its address. */
export interface Endpoint extends Omit<Operation, 'on' | 'segment'> {
  /** Where Fastify finds it: `/pulp/api/v3/repositories/rpm/rpm/:item/sync/`. */
  readonly url: string
  /** Its key in the document: `{rpm_rpm_repository_href}sync/`. */
  readonly documented: string
  readonly operationId: string
  readonly tag: string
  /** The resource it is of; an item endpoint has `:item`, one below a parent `:parent`. */
  readonly resource?: Resource
  /** Absent from the document: the API's root. */
  readonly hidden?: boolean
}

export interface Parameter {
  readonly name: string
  readonly in: 'query' | 'header'
  readonly required?: boolean
  readonly field: Field
  readonly explode?: boolean
}

export interface BodySchema {
  /** Name of the component, and with `Patched` before it that of PATCH: `rpm.RpmRepository`. */
  readonly schema: string
  readonly fields: Fields
  /** Only multipart and form encodings are documented (all three are taken). */
  readonly form?: boolean
  /** PATCH: nothing is required and no defaults are filled in. */
  readonly partial?: boolean
  /** Unknown fields are no error, as where Pulp forgets to look for them. */
  readonly lenient?: boolean
  /** A PATCH that is none: documented as one, checked as a whole. */
  readonly documentedPartial?: boolean
  /** Takes the bytes of a file part while they arrive, knowing the parts before it; by default they are staged in the blob store. */
  file?(call: Call, bytes: AsyncIterable<Uint8Array>, before: Readonly<Record<string, unknown>>): Promise<unknown>
}

export interface AnswerSchema {
  /** Name of the component; '' for an object of any members. */
  readonly schema: string
  readonly fields: Fields
  /** A page of them. */
  readonly page?: boolean
}

/**
 * Who may: everybody, everybody with a name, administrators, or whoever holds the permissions (on the object, or on all).
 * `named` says in access policies which permission it takes to see what a field of the body names (hrefs.ts asks for it); 'model' asks a
 * permission of all objects (create).
 */
export type Rule =
  | 'anyone'
  | 'authenticated'
  | 'admin'
  | {
      readonly model?: readonly string[]
      readonly object?: readonly string[]
      /** On the item that holds the collection: a version's repository. */
      readonly parent?: readonly string[]
      readonly named?: Readonly<Record<string, string>>
      /** Rights that come from elsewhere; see in-namespaces.ts. */
      readonly other?: OtherRule
    }

/** A rule of its own, and how access policies say it. */
export interface OtherRule {
  readonly conditions: readonly string[]
  /** Asked before the body is read, or when it is (`withBody`). */
  readonly withBody?: boolean
  holds(call: Call): Promise<boolean>
}

/** What an operation gets. */
export interface Call {
  readonly ctx: Ctx
  /** Undefined only where anyone may call. */
  readonly user: User | undefined
  readonly cid: string
  readonly method: string
  /** Path of the request without the query, as an href: `/pulp/api/v3/...`. */
  readonly path: string
  /** `http://host:port` as the client sees it. */
  readonly origin: string
  readonly query: URLSearchParams
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly registry: Registry
  readonly resource: Resource | undefined
  /** The item's row, found and permitted to see; and the row that holds the collection. */
  readonly row: any
  readonly parent: any
  /** The checked body: values as the fields say, an `href` as a Target, a file part as Staged. Empty without a body. */
  readonly body: Readonly<Record<string, any>>
}

/** What an href or PRN names. */
export interface Target {
  readonly kind: Kind
  readonly type: string
  readonly id: number
  readonly uuid: string | number
  readonly prn: string
}

export interface Answer {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string | string[]>>
}

/** All resources, by what names them. Built once by registerPulp. */
export interface Registry {
  readonly resources: readonly Resource[]
  readonly endpoints: readonly Endpoint[]
  /** By `<kind> <type>`. */
  find(kind: Kind, type?: string): Resource | undefined
  /** By Pulp's model as PRNs have it: `rpm.rpmrepository`. */
  named(model: string): Resource | undefined
}

export type { Field, Fields }

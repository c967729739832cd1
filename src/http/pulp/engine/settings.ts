import type { Format, RepositorySettings } from '../../../core/format.ts'
import { Failure } from '../../../lib/failure.ts'
import { hrefOfPrn } from './hrefs.ts'
import { invalid } from './invalid.ts'
import type { Field, Fields, Registry } from './resource.ts'

/* The fields that formats declare beyond those of the kind: they live together in a row's `settings`. */

export const labelsField: Field = { type: 'object', items: { type: 'string', nullable: true, allowBlank: true } }

/** Those members of a body that are declared settings. */
export function pickSettings(fields: Fields, body: Readonly<Record<string, any>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, field]) =>
      name in body && !field.readOnly && !field.secret
        ? [[name, field.type === 'href' ? (body[name]?.prn ?? null) : body[name]]]
        : [],
    ),
  )
}

/** Settings as answers show them: what was never set is its default or null; a read-only field that nothing sets is left out. */
export function showSettings(registry: Registry, fields: Fields, settings: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, field]) => {
      if (field.secret || field.writeOnly) return []
      const stored = name in settings ? settings[name] : field.default
      const value = field.type === 'href' && typeof stored === 'string' ? hrefOfPrn(registry, stored) : stored
      return value === undefined && field.readOnly && !field.nullable ? [] : [[name, value ?? emptyOf(field)]]
    }),
  )
}

/** What Pulp stores for a field that was never set and cannot be null. */
function emptyOf(field: Field): unknown {
  if (field.nullable) return null
  if (field.type === 'integer' || field.type === 'number') return field.minimum ?? 0
  if (field.type === 'boolean') return false
  if (field.type === 'array') return []
  if (field.type === 'object' || field.type === 'any') return {}
  return null
}

/** Lets a format check values beyond their fields. What it throws without a field is about the request as a whole, as a bare list. */
export function checkSetting(
  format: Format,
  what: Parameters<NonNullable<Format['check']>>[0],
  values: Record<string, unknown>,
  repository?: RepositorySettings,
): void {
  try {
    format.check?.(what, values, repository)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'invalid' || error.problems) throw error
    throw invalid(error.field ? { [error.field]: [error.message] } : [error.message])
  }
}

/** Checks labels beyond being texts: their keys and values stand in filters. */
export function checkLabels(labels: Record<string, string | null> | undefined): void {
  for (const [key, value] of Object.entries(labels ?? {})) {
    if (!/^[\p{L}\p{N}_ ]+$/u.test(key)) throw invalid({ pulp_labels: [`Key '${key}' contains non-alphanumerics.`] })
    if (/[,()]/.test(value ?? '')) throw invalid({ pulp_labels: [`Key '${key}' contains value with comma or parenthesis.`] })
  }
}

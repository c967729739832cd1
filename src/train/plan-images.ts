import { pathAt } from './images.ts'
import type { Change, ServerState, Step } from './plan.ts'
import type { Train, TrainImages } from './train.ts'

/* What must be done on a server for the images of a train: namespaces, who may do what in them, and where promotions go. */

/** Roles on a namespace: to pull, and to push as well. */
export const namespaceRoles = {
  consumer: 'container.containernamespace_consumer',
  collaborator: 'container.containernamespace_collaborator',
} as const
export type NamespaceRole = keyof typeof namespaceRoles

/** Who holds which role on a namespace. */
export type NamespaceGroups = Readonly<Record<NamespaceRole, readonly string[]>>

/** Groups that only build images, beside those that read stages. */
export function builderGroups({ images, groups }: Train): string[] {
  return (images?.builders ?? []).filter((each) => !groups.has(each))
}

export function planNamespaces(train: Train, server: ServerState): Step[] {
  const steps: Step[] = []
  for (const [stage, name] of train.images?.namespaces ?? []) {
    const present = server.namespaces.get(name)
    if (!present) steps.push({ act: 'add', what: 'namespace', name })
    const wanted: NamespaceGroups = {
      consumer: [...train.groups].flatMap(([group, stages]) => (stages.includes(stage) ? group : [])),
      collaborator: stage === train.stages[0] ? train.images!.builders : [],
    }
    for (const role of ['consumer', 'collaborator'] as const) {
      const held = present?.[role] ?? []
      for (const group of wanted[role])
        if (!held.includes(group)) steps.push({ act: 'grant', what: 'namespace', name, group, role })
      for (const group of held)
        if (!wanted[role].includes(group)) steps.push({ act: 'revoke', what: 'namespace', name, group, role })
    }
  }
  return steps
}

/** Images that are filled by promotions or syncs are made; those that are pushed are made by the first push, private. */
export function planImageServing(train: Train, server: ServerState, labels: Labels): Step[] {
  const { images, stages } = train
  if (!images) return []
  return stages.flatMap((stage, index) =>
    [...images.names.map((name) => [name, false] as const), ...images.mirrored.map(({ name }) => [name, true] as const)].flatMap(
      ([image, mirrored]) => {
        const path = pathAt(images, stage, image)
        return path === undefined
          ? []
          : planImage(server, path, { made: index > 0 || mirrored, private: index === 0 || images.private, labels })
      },
    ),
  )
}

type Labels = Readonly<Record<string, string>>

function planImage(server: ServerState, path: string, wanted: { made: boolean; private: boolean; labels: Labels }): Step[] {
  const served = server.images.get(path)
  if (!served)
    return wanted.made ? [{ act: 'add', what: 'image', name: path, private: wanted.private, labels: wanted.labels }] : []
  if (served.private === wanted.private) return []
  const change: Change = { field: 'private', from: String(served.private), to: String(wanted.private) }
  return [{ act: 'change', what: 'image', name: path, href: served.href, changes: [change], body: { private: wanted.private } }]
}

/** Names of the repositories that the train has for images: where promotions go, and what is mirrored. */
export function imageRepositoryNames(images: TrainImages | undefined, stages: readonly string[]): string[] {
  if (!images) return []
  const promoted = stages
    .slice(1)
    .flatMap((stage) =>
      [...images.names, ...images.mirrored.map(({ name }) => name)].map((image) => pathAt(images, stage, image)),
    )
  return [...promoted.filter((path) => path !== undefined), ...images.mirrored.map(({ repository }) => repository.name)]
}

/** What is in the way of promotions: told, because nothing that was pushed is ever thrown away here. */
export function findImageDrift({ images, stages }: Train, server: ServerState): string[] {
  if (!images) return []
  return stages.slice(1).flatMap((stage) =>
    images.names.flatMap((image) => {
      const path = pathAt(images, stage, image)
      return path !== undefined && server.images.get(path)?.pushed
        ? `${path} was pushed to: nothing can be promoted there until it is deleted.`
        : []
    }),
  )
}

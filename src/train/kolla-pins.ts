import { containersOf, keyOfContainer, defaultKey, type KollaTags, tagOfContainer } from './kolla.ts'

/**
 * The tags that Kolla's keys must get for every image to have the tag that is wanted of it, for one distribution. Keys that are there
 * take the tag that most of their containers want; what differs from its service gets a key of its own.
 */
export function planKollaTags(
  distribution: string,
  tags: KollaTags,
  wanted: ReadonlyMap<string, string>,
): { key: string; from: string | undefined; to: string }[] {
  const containers = new Map([...wanted].flatMap(([image, tag]) => containersOf(image).map((each) => [each, tag] as const)))
  let planned = withMostWanted(distribution, withDefault(tags), containers)
  for (;;) {
    const wrong = [...containers].filter(([container, tag]) => tagOfContainer(planned, distribution, container) !== tag)
    if (wrong.length === 0) break
    for (const [container, tag] of wrong) {
      // An earlier key of this round may have served this container, too.
      if (tagOfContainer(planned, distribution, container) === tag) continue
      const service = container.split('_', 1)[0]!
      const whole = withTag(planned, service, distribution, tag)
      planned =
        !planned.has(service) && agrees(whole, service, distribution, containers)
          ? whole
          : withTag(planned, container, distribution, tag)
    }
  }
  return [...planned].flatMap(([key, each]) => {
    const [from, to] = [tags.get(key)?.get(distribution), each.get(distribution)]
    return to === undefined || to === from ? [] : [{ key, from, to }]
  })
}

function withDefault(tags: KollaTags): KollaTags {
  return tags.has(defaultKey) ? tags : new Map([[defaultKey, new Map<string, string>()], ...tags])
}

function withTag(tags: KollaTags, key: string, distribution: string, tag: string): KollaTags {
  return new Map([...tags, [key, new Map([...(tags.get(key) ?? []), [distribution, tag]])]])
}

/** Gives each key the tag that most of the containers below it want; of two that are wanted equally, the newer. */
function withMostWanted(distribution: string, tags: KollaTags, containers: ReadonlyMap<string, string>): KollaTags {
  const votes = Map.groupBy(containers, ([container]) => keyOfContainer(tags, distribution, container))
  let result = tags
  for (const [key, voters] of votes) {
    const counted = [...Map.groupBy(voters, ([, tag]) => tag)].map(([tag, all]) => ({ tag, count: all.length }))
    counted.sort((a, b) => b.count - a.count || (a.tag < b.tag ? 1 : -1))
    result = withTag(result, key, distribution, counted[0]!.tag)
  }
  return result
}

/** Whether everything that a key gives its tag to wants that tag. */
function agrees(tags: KollaTags, key: string, distribution: string, containers: ReadonlyMap<string, string>): boolean {
  const tag = tags.get(key)!.get(distribution)
  return [...containers].every(([container, each]) => each === tag || keyOfContainer(tags, distribution, container) !== key)
}

import { readFile } from 'node:fs/promises'
import { Failure, hasCode } from '../lib/failure.ts'
import { hint } from '../lib/nearest.ts'
import { selectRepositories } from './filter.ts'
import { loadImages, loadLineImages } from './load-images.ts'
import { formatNames, loadRepository, loadSettings } from './load-repository.ts'
import type { FormatName, Line, Train, TrainImages, TrainRepository } from './train.ts'
import { fields, isMapping, items, listOf, members, name, type Place, parseYaml, rootOf, text, wrong } from './yaml-document.ts'

/** Reads train.yaml. Throws Failure invalid, starting with file and line, for anything it does not understand. */
export async function loadTrain(path: string): Promise<Train> {
  return parseTrain(path, await readText(path))
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (!hasCode(cause, 'ENOENT', 'EISDIR', 'ENOTDIR')) throw cause
    throw new Failure('not_found', `${path}: there is no such file. Name the train with --config FILE.`, { cause })
  }
}

const known = ['train', 'server', 'defaults', 'repositories', 'images', 'lines', 'stages', 'groups'] as const
const notYet = {
  files: 'Host images',
  sources: 'Sources',
  gates: 'Gates',
  clients: 'Clients',
  notifications: 'Notifications',
}

export function parseTrain(path: string, source: string): Train {
  const root = rootOf(parseYaml(path, source))
  const found = fields(root, known, notYet)
  const required = (key: (typeof known)[number]) => {
    const place = found.get(key)
    if (!place) throw wrong(root, `"${key}" is missing.`)
    return place
  }
  const title = name(required('train'))
  const defaults = loadDefaults(found.get('defaults'))
  const repositories = loadRepositories(required('repositories'), defaults)
  const stages = loadStages(found.get('stages'))
  const images = found.has('images') ? loadImages(found.get('images')!, stages, defaults) : undefined
  return {
    name: title,
    file: path,
    server: found.has('server') ? text(found.get('server')!) : undefined,
    stages,
    groups: loadGroups(found.get('groups'), stages),
    repositories,
    images,
    lines: loadLines(found.get('lines'), repositories, images),
  }
}

function loadDefaults(place: Place | undefined): ReadonlyMap<string, Place> {
  const defaults = place ? fields(place, formatNames, notYetFormats) : new Map<string, Place>()
  for (const [format, at] of defaults) loadSettings(format as FormatName, at)
  return defaults
}

function loadRepositories(place: Place, defaults: ReadonlyMap<string, Place>): TrainRepository[] {
  const repositories: TrainRepository[] = []
  const taken = new Map<string, string>()
  for (const [key, at] of members(place)) {
    const repository = loadRepository(key, at, defaults)
    // Two repositories that share a path or a snapshot name would overwrite one another.
    for (const claim of [`path ${repository.path}`, `distribution_name ${repository.distributionName}`]) {
      const other = taken.get(claim)
      if (other !== undefined) throw wrong(at, `${claim} is already that of ${other}.`)
      taken.set(claim, key)
    }
    repositories.push(repository)
  }
  return repositories
}

const notYetFormats = { deb: 'Debian repositories', git: 'Sources' }

const gateFields = { gates: 'Gates', approvals: 'Approvals' }

function loadStages(place: Place | undefined): string[] {
  if (!place) return ['development', 'release']
  const stages: string[] = []
  for (const item of items(place)) {
    const stage = isMapping(item) ? stageWithSettings(item) : name(item)
    if (stages.includes(stage)) throw wrong(item, `"${stage}" is named twice.`)
    stages.push(stage)
  }
  if (stages.length < 2)
    throw wrong(place, 'at least two stages are needed: where snapshots begin, and where clients install from.')
  return stages
}

function stageWithSettings(item: Place): string {
  const [first, ...others] = members(item)
  if (!first || others.length > 0) throw wrong(item, 'a stage is one name.')
  fields(first[1], [], gateFields)
  return first[0]
}

function loadGroups(place: Place | undefined, stages: readonly string[]): Map<string, string[]> {
  // As the original train: clients read what is released, testers everything.
  if (!place)
    return new Map([
      ['clients', [stages.at(-1)!]],
      ['testers', [...stages]],
    ])
  return new Map(
    members(place).map(([group, at]) => {
      const reads = listOf((item) => {
        const stage = name(item)
        if (!stages.includes(stage)) throw wrong(item, `"${stage}" is not a stage (${stages.join(', ')}).${hint(stage, stages)}`)
        return stage
      })(at)
      return [group, reads]
    }),
  )
}

function loadLines(place: Place | undefined, repositories: readonly TrainRepository[], images: TrainImages | undefined): Line[] {
  if (!place) return []
  return members(place).map(([line, at]) => {
    // The name is a file name (pins/<line>.yaml) and part of what people type.
    if (!/^[A-Za-z0-9][\w.-]*$/.test(line)) throw wrong(at, 'a line is named with letters, digits, ".", "-" and "_".')
    const found = fields(at, ['repositories', 'images'], { branch: 'Branches', files: 'Host images', sources: 'Sources' })
    const list = found.get('repositories')
    if (!list) throw wrong(at, '"repositories" is missing.')
    const ofImages = found.get('images')
    const filters = listOf((item) => {
      const filter = name(item)
      try {
        selectRepositories(repositories, [filter])
      } catch (error) {
        throw error instanceof Failure ? wrong(item, error.message) : error
      }
      return filter
    })(list)
    return {
      name: line,
      repositories: filters.length === 0 ? [] : selectRepositories(repositories, filters).map((each) => each.name),
      ...(ofImages ? loadLineImages(ofImages, images) : { images: [], distributions: [] }),
    }
  })
}

/** The line called so; the only one when none is named. Throws Failure not_found, or invalid when one must be chosen. */
export function getLine(train: Train, line: string | undefined): Line {
  const names = train.lines.map((each) => each.name).join(', ')
  if (train.lines.length === 0) throw new Failure('not_found', `${train.file} declares no line.`)
  if (line === undefined) {
    if (train.lines.length > 1) throw new Failure('invalid', `The train has several lines; name one of ${names}.`)
    return train.lines[0]!
  }
  const found = train.lines.find((each) => each.name === line)
  if (!found) throw new Failure('not_found', `The train has no line ${line} (it has ${names}).`)
  return found
}

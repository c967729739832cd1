import { selectRepositories } from './filter.ts'
import { imagesOfLine } from './images.ts'
import type { Line, Train, TrainRepository } from './train.ts'

/** What filters select of a line; filters name repositories and images alike. */
export function selectOfLine(
  train: Train,
  line: Line,
  filters: readonly string[],
): { repositories: TrainRepository[]; images: string[] } {
  const selectable = [
    ...train.repositories
      .filter(({ name }) => line.repositories.includes(name))
      .map((repository) => ({ repository, name: repository.name, group: repository.group })),
    ...imagesOfLine(train.images, line).map((name) => ({ repository: undefined, name, group: 'images' })),
  ]
  const selected = selectRepositories(selectable, filters, train.images ? 'repository or image' : 'repository')
  return {
    repositories: selected.flatMap(({ repository }) => repository ?? []),
    images: selected.filter(({ repository }) => !repository).map(({ name }) => name),
  }
}

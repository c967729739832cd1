import { describeMissing } from './programs.ts'

/** `npm run bench -- NAME [arguments]`: runs one benchmark. Each compares with a real peer in the same run and prints medians. */
const benchmarks: Record<string, { file: string; needs?: readonly string[] }> = {
  sync: { file: './sync.ts', needs: ['createrepo_c', 'mergerepo_c'] },
  serving: { file: './serving.ts', needs: ['nginx', 'wrk', 'curl'] },
  tasks: { file: './tasks.ts' },
  download: { file: './download.ts', needs: ['nginx', 'curl'] },
  promote: { file: './promote.ts' },
  start: { file: './start.ts' },
  registry: { file: './registry.ts', needs: ['wrk', 'curl'] },
  pulp: { file: './pulp.ts' },
  soak: { file: './soak.ts' },
  'power-cuts': { file: './power-cuts.ts' },
}

const [name = '', ...args] = process.argv.slice(2)
const benchmark = benchmarks[name]
if (!benchmark) {
  console.error(
    [
      'usage: npm run bench -- NAME',
      '  sync DIR CHANGED_DIR   read, publish and diff a large rpm repository, beside createrepo_c',
      '  serving                hot and large files, beside nginx',
      '  tasks DIR              32 repositories at once; what requests feel of that and of a large rpm repository',
      '  download               one large file, beside curl',
      '  promote                200 repositories at once',
      '  start                  time to ready, idle memory',
      '  registry [WHAT...]     pushes and pulls of images (large, small, pushes, tags), beside distribution 3 and docker-registry',
      '  pulp URL               the same calls to a real Pulp (admin/password)',
      '  soak                   pushes to the registry against garbage collection',
      '  power-cuts             what was acknowledged, after the disk lost its power (--fs, --cuts, --control); needs root',
    ].join('\n'),
  )
  process.exit(2)
}
const missing = await describeMissing(name, benchmark.needs ?? [])
if (missing !== undefined) {
  console.error(missing)
  process.exit(2)
}
const { bench } = (await import(benchmark.file)) as { bench: (args: readonly string[]) => Promise<void> }
await bench(args)

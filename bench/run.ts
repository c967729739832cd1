/** `npm run bench -- NAME [arguments]`: runs one benchmark. Each compares with a real peer in the same run and prints medians. */
const benchmarks: Record<string, string> = {
  sync: './sync.ts',
  serving: './serving.ts',
  tasks: './tasks.ts',
  download: './download.ts',
  promote: './promote.ts',
  start: './start.ts',
  registry: './registry.ts',
  pulp: './pulp.ts',
  soak: './soak.ts',
  'power-cuts': './power-cuts.ts',
}

const [name = '', ...args] = process.argv.slice(2)
const file = benchmarks[name]
if (!file) {
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
const { bench } = (await import(file)) as { bench: (args: readonly string[]) => Promise<void> }
await bench(args)
